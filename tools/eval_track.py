"""`frameloom eval track`: how well objects keep their number, on labelled sequences with given detections.

The detections are files, so no model has a part in the figures. Each frame goes through the tracker of a run at the
time it was taken, `(frame - 1) / fps`; with frames removed, too: that shows what dropped frames do to tracks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.config.load import load_settings, parse_set
from pipeline.errors import ConfigError
from pipeline.postprocess.tracker import TrackerOptions
from pipeline.sinks.paths import prepare_folder
from tools.targets import check_target
from tools.terminal import bar
from tools.tracking.follow import Ours, follow
from tools.tracking.score import FITS, INSIDE, Score, Scored, check_installed, score_sequence, score_together
from tools.tracking.sequences import Found, Labelled, Thinning, find_sequences

CONFIDENCE = 0.6
"""Score of a sure detection. Sets of detections have scores of their own kinds, so a run's threshold means nothing for
them; this one is ByteTrack's."""
LOW_CONFIDENCE = 0.1
"""As `track.low_confidence`."""
SETTABLE = ("min_iou", "confirm_frames", "max_gap_s")
"""Keys of `track` that have a meaning where there are neither pictures nor classes; scores have options."""
NAMES_SHOWN = 5
SHARES = ("MOTA", "IDF1", "HOTA")
COUNTS = ("switches", "FP", "FN", "fragments", "objects")


@dataclass(frozen=True)
class Report:
    """Scores of sequences, by name, and of all together."""

    sequences: dict[str, Score]
    overall: Score


def track(
    gt: Annotated[Path, typer.Option(metavar="DIR", help="Folder of sequences with gt.txt or gt/gt.txt.")],
    det: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of sequences with det.txt or det/det.txt.")
    ] = None,
    tracks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Score these instead of tracking: NAME.txt or NAME/result.txt, as MOT text."),
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the tracks there: NAME.txt.")] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second. Default: as each seqinfo.ini says, or 25.")
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Score of a sure detection; any number, for detectors count differently.")
    ] = CONFIDENCE,
    low_confidence: Annotated[
        float, typer.Option(help="Boxes down to this score continue a track, but begin none.")
    ] = LOW_CONFIDENCE,
    start_confidence: Annotated[
        float | None, typer.Option(help="Boxes from this score begin a track. Default: --confidence.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=f"Of track: {', '.join(SETTABLE)}.")
    ] = None,
    drop_every: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Remove frames N, 2 N, ...; they are not scored either.")
    ] = None,
    keep_every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep frames 1, 1 + N, ... only; no others are scored.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores and settings as JSON.")
    ] = None,
) -> None:
    """MOTA, IDF1 and HOTA of the tracker on labelled sequences (MOTChallenge layout), or of another one's results."""
    check_installed()
    check_target("--json", json_file)
    thinning = thinning_of(drop_every, keep_every)
    options = options_of(confidence, low_confidence, start_confidence, set_ or ())
    given = _given(det, tracks, save)
    found = find_sequences(given, gt, checked_fps(fps), tracks=tracks is not None)
    if save is not None:
        prepare_folder(save, "--save")
    sequences = [thinning(each) for each in found.sequences]
    with bar("track") as progress:
        report = evaluate(sequences, options, save, progress)
    console = Console(highlight=False)
    print_report(report, console)
    _print_conventions(console, sequences, options if tracks is None else None, thinning)
    print_notes(console, found)
    if json_file is not None:
        json_file.write_text(json.dumps(_as_json(report, found, options, thinning, tracks), indent=2) + "\n")


def evaluate(
    sequences: Sequence[Labelled],
    options: TrackerOptions,
    save: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Track each sequence, where it has no tracks yet, and score it.

    Raises:
        ConfigError: there is nothing to find in any, or the tracks cannot be written.
    """
    check_truth(sequences)
    scored: dict[str, Scored] = {}
    for number, sequence in enumerate(sequences, start=1):
        tracks = follow(sequence, Ours(options)).tracks if sequence.tracks is None else sequence.tracks
        if save is not None:
            tracks.write(save / f"{sequence.name}.txt")
        scored[sequence.name] = score_sequence(sequence, tracks)
        progress(number, len(sequences))
    return Report({name: each.score for name, each in scored.items()}, score_together(list(scored.values())))


def check_truth(sequences: Sequence[Labelled]) -> None:
    """See that there is something to find.

    Raises:
        ConfigError: there is not.
    """
    if not any(len(each.truth) for each in sequences):
        names = ", ".join(each.name for each in sequences[:NAMES_SHOWN])
        raise ConfigError(f"the truth has not one box that is to be scored, so there is nothing to measure: {names}")


def thinning_of(drop_every: int | None, keep_every: int | None) -> Thinning:
    """Return which frames stay.

    Raises:
        ConfigError: both are given.
    """
    if drop_every is not None and keep_every is not None:
        raise ConfigError("--drop-every and --keep-every exclude each other: give one of them")
    return Thinning(drop_every, keep_every)


def checked_fps(fps: float | None) -> float | None:
    """Return it.

    Raises:
        ConfigError: it is no number of frames that a second can have.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"--fps {fps:g}: write a number above 0")
    return fps


def options_of(
    confidence: float = CONFIDENCE,
    low: float = LOW_CONFIDENCE,
    start: float | None = None,
    settings: Sequence[str] = (),
) -> TrackerOptions:
    """Return how to track given detections.

    Raises:
        ConfigError: a score cannot be, or a setting is none of those that can be set here.
    """
    for option, value in (("--confidence", confidence), ("--low-confidence", low), ("--start-confidence", start)):
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"{option} {value:g}: write a number")
    if start is not None and start < confidence:
        raise ConfigError(f"--start-confidence {start:g} is below --confidence {confidence:g}: write a higher one")
    overrides = [parse_set(text) for text in settings]
    for override in overrides:
        if override.key not in {f"track.{key}" for key in SETTABLE}:
            keys = ", ".join(f"track.{key}" for key in SETTABLE)
            raise ConfigError(f"--set {override.key}: without pictures and classes these can be set: {keys}")
    wanted = load_settings(None, overrides).settings.track
    return TrackerOptions(
        high=confidence,
        low=min(low, confidence),
        start=start,
        min_iou=wanted.min_iou,
        confirm_frames=wanted.confirm_frames,
        max_gap_s=wanted.max_gap_s,
    )


def _given(det: Path | None, tracks: Path | None, save: Path | None) -> Path:
    """Return the folder of what is to be tracked or scored.

    Raises:
        ConfigError: there is none, or two, or results of others are to be written.
    """
    if tracks is not None and det is not None:
        raise ConfigError("--tracks are scored as they are, so --det is not needed: give one of them")
    if tracks is not None and save is not None:
        raise ConfigError("--save writes what the tracker finds; with --tracks it does not run")
    given = tracks if tracks is not None else det
    if given is None:
        raise ConfigError("there is nothing to track: give --det, or --tracks to score results that exist")
    return given


# ---- what is printed


def print_report(report: Report, console: Console) -> None:
    """Print a row for each sequence, and one for all."""
    table = Table(box=None, pad_edge=False)
    table.add_column("sequence", no_wrap=True)
    for heading in (*SHARES, *COUNTS):
        table.add_column(heading, justify="right")
    for name, score in report.sequences.items():
        table.add_row(name, *cells(score))
    if len(report.sequences) > 1:
        table.add_row("all", *cells(report.overall), style="bold")
    console.print(table)


def cells(score: Score) -> tuple[str, ...]:
    """Return shares in percent, and counts."""
    counts = (score.switches, score.false_positives, score.misses, score.fragments, score.objects)
    return (*(percent(share) for share in (score.mota, score.idf1, score.hota)), *map(str, counts))


def percent(share: float | None) -> str:
    """Return a share as the field writes it; `-` where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def print_notes(console: Console, found: Found) -> None:
    """Say what was not used."""
    notes = [each.note for each in found.sequences if each.note]
    if found.left_out:
        more = ", ..." if len(found.left_out) > NAMES_SHOWN else ""
        shown = "; ".join(found.left_out[:NAMES_SHOWN])
        notes.insert(0, f"{len(found.left_out)} sequences were left out: {shown}{more}")
    for note in notes:
        console.print(f"note: {note}", markup=False, style="yellow", soft_wrap=True)


def _print_conventions(
    console: Console, sequences: Sequence[Labelled], options: TrackerOptions | None, thinning: Thinning
) -> None:
    rates = sorted({each.fps for each in sequences})
    frames = sum(len(each.frames) for each in sequences)
    speed = ", ".join(f"{rate:g}" for rate in rates)
    words = [f"boxes fit from an IoU of {FITS}", f"{frames} frames ({thinning}) at {speed} fps"]
    if any(len(each.ignored) for each in sequences):
        words.append(
            f"boxes that lie in an ignored region by more than {INSIDE:.0%} count only where they fit an object"
        )
    if options is not None:
        words.append(f"confidence {options.high:g}, low {options.low:g}")
    console.print(f"conventions: {'; '.join(words)}", markup=False, soft_wrap=True)


def _as_json(
    report: Report, found: Found, options: TrackerOptions, thinning: Thinning, tracks: Path | None
) -> dict[str, Any]:
    settings = {
        "confidence": options.high,
        "low_confidence": options.low,
        "start_confidence": options.start,
        **{key: getattr(options, key) for key in SETTABLE},
    }
    return {
        "overall": asdict(report.overall),
        "sequences": {name: asdict(score) for name, score in report.sequences.items()},
        "frames": str(thinning),
        "fps": {each.name: each.fps for each in found.sequences},
        "tracker": settings if tracks is None else str(tracks),
        "left_out": list(found.left_out),
    }
