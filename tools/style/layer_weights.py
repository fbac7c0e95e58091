"""`--layer-weights`: how much each layer's share of the style counts, for whoever compares Gram matrices."""

from __future__ import annotations

from pipeline.errors import ConfigError


def read_weights(text: str, count: int) -> tuple[float, ...]:
    """Read a weight for each layer: `1,1,2`.

    Raises:
        ConfigError: they are not `count` numbers from 0 on, or all 0.
    """
    try:
        weights = tuple(float(each) for each in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != count or not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ConfigError(
            f"--layer-weights {text}: give {count} numbers from 0 on, not all 0, with commas between them"
        )
    return weights
