"""Everything that is known of a compiled engine, in words: what `frameloom engines show` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tools.engines.words import age, made_for, mebibytes, shape_words, state_words

if TYPE_CHECKING:
    from engines.cache.engine_cache import Listed
    from engines.cache.manifest import Manifest, Quantisation

Facts = Iterator[tuple[str, str]]


def facts(listed: Listed) -> Facts:
    """Yield each fact and what it is called."""
    yield "name", listed.path.stem
    yield "file", str(listed.path)
    yield "size", f"{mebibytes(listed.bytes)} ({listed.bytes:,} bytes)"
    yield "here", listed.verdict.word + (f": {listed.verdict.reason}" if listed.verdict.reason else "")
    if listed.manifest is not None:
        yield from _of_manifest(listed.manifest)


def _of_manifest(manifest: Manifest) -> Facts:
    yield "model", manifest.model
    if manifest.model_path:
        yield "model file", manifest.model_path
    yield "model sha256", manifest.model_sha256
    yield "backend", f"{manifest.backend} {manifest.version}"
    yield "precision", manifest.precision
    yield "input", f"{shape_words(manifest)}, {manifest.colour} (height x width)"
    if manifest.quantisation is None:
        yield "tuned for", f"{manifest.usual_batch} at once"
    yield "normalisation", f"(x - {list(manifest.mean)}) / {list(manifest.std)}"
    if (chosen := manifest.candidates) is not None:
        yield "copied back", f"the {chosen[2]} best rows, by the scores from column {chosen[0]} on"
    if manifest.workspace_bytes is not None:
        yield "working space", f"at most {mebibytes(manifest.workspace_bytes)}"
    where = "" if manifest.quantisation is not None else f", on {manifest.system}"
    yield "built", f"{made_for(manifest)}{where}"
    yield "", f"{manifest.built_at:%Y-%m-%d %H:%M} UTC ({age(manifest.built_at)}), in {manifest.build_s:g} s"
    yield "", f"by recipe {manifest.recipe}"
    yield "plan sha256", manifest.plan_sha256
    yield "state", state_words(manifest)
    for line in _parity_lines(manifest.parity or {}):
        yield "", line
    if manifest.quantisation is not None:
        yield from _of_quantisation(manifest.quantisation)


def _of_quantisation(made: Quantisation) -> Facts:
    yield "speed", f"{made.int8_ms:.1f} ms, {made.int8_cpu_ms:.1f} of CPU time, when it was made"
    yield "", f"{made.float_precision}: {made.float_ms:.1f} ms, {made.float_cpu_ms:.1f} of CPU time"
    yield "calibrated on", f"{made.calibration_pictures} pictures, sha256 {made.calibration_sha256}"
    yield "in int8", f"{made.layers} convolutions; {made.depthwise} never are, such as depthwise ones"
    if made.in_float:
        worst = sorted(made.in_float.items(), key=lambda each: -each[1])
        each = ", ".join(f"{layer} {100 * loss:.2g} %" for layer, loss in worst)
        yield "left in float", f"{len(worst)} convolutions, for the boxes that each alone would lose or move: {each}"


def _parity_lines(parity: dict[str, Any]) -> Iterator[str]:
    for name, errors in (parity.get("tensors") or {}).items():
        yield f"{name}: errors up to {_number(errors['max_error'])}, {_number(errors['mean_error'])} on average"
    for what in ("decisions", "encodings"):
        if numbers := parity.get(what):
            each = [f"{key.replace('_', ' ')} {_number(value)}" for key, value in numbers.items()]
            yield f"{what}: {', '.join(each)}"
    if mixed := parity.get("mixed"):
        yield f"pictures of a batch that got another's outputs: {mixed}"


def _number(value: float | None) -> str:
    """Return a number; JSON has none for infinity, which is the error of what is no number."""
    return "infinite" if value is None else f"{value:.4g}"
