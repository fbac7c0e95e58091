"""How `frameloom engines` puts a compiled engine into words."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from engines.cache.manifest import CALIBRATED
from engines.int8.circumstances import CPU_BACKENDS

if TYPE_CHECKING:
    from engines.cache.manifest import Manifest, Quantisation

MIB = 1 << 20
AGES = ((86400, "day"), (3600, "hour"), (60, "minute"))
UNVERIFIED = "unverified: the first run on a GPU compares it with its model file"


def mebibytes(count: int) -> str:
    """Return a number of bytes as 5.1 MiB."""
    return f"{count / MIB:.1f} MiB"


def age(built_at: datetime, now: datetime | None = None) -> str:
    """Return how long ago something was built, in its largest whole unit."""
    seconds = ((now or datetime.now(timezone.utc)) - built_at).total_seconds()
    for length, unit in AGES:
        if (whole := int(seconds // length)) >= 1:
            return f"{whole} {unit}{'s' if whole > 1 else ''} old"
    return "new"


def shape_words(manifest: Manifest) -> str:
    """Return the input's height and width, and how many pictures at once: 416x416, up to 8."""
    height, width = manifest.input_size
    shape = f"{height}x{width}"
    return f"{shape}, up to {manifest.batch}" if manifest.batch > 1 else shape


def made_for(manifest: Manifest) -> str:
    """Return the machine that an engine is for."""
    if manifest.backend == CALIBRATED:
        return "for int8 engines of any machine"
    if manifest.backend in CPU_BACKENDS:
        return f"for the CPU of {manifest.system}"
    if not manifest.portable:
        return f"for {manifest.gpu} ({manifest.compute_capability}), driver {manifest.driver}"
    if not manifest.targets:
        return f"for the GPUs that {manifest.backend} chooses by itself"
    return f"for compute capability {', '.join(manifest.targets)}"


def state_words(manifest: Manifest) -> str:
    """Return what is known of an engine's results, in one line."""
    if manifest.backend == CALIBRATED:
        return "an int8 network, calibrated on pictures"
    if manifest.quantisation is not None:
        return f"accepted: {quantisation_words(manifest.quantisation)}"
    if manifest.state == "verified":
        return f"verified: {parity_words(manifest.parity or {})}"
    return UNVERIFIED if manifest.state == "unverified" else f"refused: {manifest.refusal}"


def quantisation_words(made: Quantisation) -> str:
    """Return what an int8 network was accepted for: the figure before and after, and on what."""
    return (
        f"{made.figure} {made.after:.1f} % ({made.before:.1f} in {made.float_precision}, at least {made.bound:.1f}) on "
        f"{made.judged_on}"
    )


def parity_words(parity: dict[str, Any]) -> str:
    """Return the essence of a stored parity report: how many pictures, and what counts most of what was compared."""
    pictures = f"{parity.get('pictures', 0)} pictures"
    if boxes := parity.get("decisions"):
        drift = f"score drift up to {boxes['max_score_drift']:.2g}"
        return f"{pictures}, {boxes['matched']} of {boxes['reference']} boxes matched, {drift}"
    if faces := parity.get("encodings"):
        return f"{pictures}, encodings drift up to {faces['max_drift']:.2g}"
    errors = [each["max_error"] for each in (parity.get("tensors") or {}).values()]
    return f"{pictures}, largest error {max(errors, default=0):.2g}"
