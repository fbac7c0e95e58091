"""Names of a model's classes, as settings give them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def number_of(name: str, labels: Sequence[str], key: str) -> int:
    """Return the number of a class.

    Args:
        name: of the class.
        labels: names of all.
        key: of the setting, for the message.

    Raises:
        ConfigError: the model has no such class; the nearest name is said.
    """
    if name in labels:
        return labels.index(name)
    near = difflib.get_close_matches(name, labels, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it knows: {', '.join(labels)}"
    raise ConfigError(f"{key}: the model has no class {name!r}; {hint}")
