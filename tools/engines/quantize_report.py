"""What `frameloom engines quantize` says in the end: what was kept in float and why, what int8 costs, what it gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.engines.words import mebibytes
from tools.terminal import say

FASTER = 0.95
"""What takes more than this part of the other's time is no faster."""
LAYERS_SHOWN = 12


@dataclass(frozen=True)
class Tried:
    """One attempt: how many layers were left in float, and what was measured."""

    in_float: int
    figure: float


@dataclass(frozen=True)
class Part:
    """Pictures that judge: what the float engine reaches on them, and int8 must."""

    judged_on: str
    before: float
    least: float


@dataclass(frozen=True)
class Report:
    """All of it."""

    model: str
    backend: str
    float_precision: str
    figure: str
    choosing: Part
    attempts: tuple[Tried, ...]
    """On the pictures that choose: the last was chosen, or none was."""
    deciding: Part
    after: float | None
    """Of what was chosen, on the pictures that decide; None: nothing was chosen."""
    uncertainty: str
    """Of `after`, in words."""
    layers: int
    """Convolutions in int8, in the last attempt."""
    in_float: dict[str, float]
    """Convolutions left in float: the harm each alone does to decisions, as a share of the boxes."""
    depthwise: int
    calibration_pictures: int
    float_ms: float
    int8_ms: float
    float_cpu_ms: float
    int8_cpu_ms: float
    float_bytes: int
    int8_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether what was chosen is good enough on pictures that had no part in choosing it."""
        return self.after is not None and self.after >= self.deciding.least

    @property
    def faster(self) -> bool:
        """Whether int8 is faster by more than what two measurements differ, in CPU time.

        On a machine with two busy cores, yolox-nano on ONNX Runtime once took 23.1 ms in fp32 and 14.5 in int8, and
        15.8 and 23.1 half an hour later; its CPU time was 15.7 and 16.6.
        """
        return self.int8_cpu_ms < FASTER * self.float_cpu_ms

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        refused = f"{self.model} in int8 on {self.backend} was not accepted, and nothing is stored: {self.figure} is"
        if self.after is None:
            best = max(attempt.figure for attempt in self.attempts)
            return f"{refused} {best:.1f} at best, and must be {self.choosing.least:.1f}"
        if not self.accepted:
            return (
                f"{refused} {self.after:.1f} on the pictures that had no part in choosing what stays in float "
                f"({self.uncertainty}), and must be {self.deciding.least:.1f}"
            )
        if not self.faster:
            return f"accepted, and no faster than {self.float_precision} here: use that"
        return f"accepted: {self.float_precision} takes {self.float_cpu_ms / self.int8_cpu_ms:.2f} times its CPU time"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "accepted": self.accepted, "faster": self.faster, "verdict": self.verdict}


def print_report(report: Report, console: Console) -> None:
    """Print it."""
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{report.model} on {report.backend}", no_wrap=True)
    for heading in (report.float_precision, "int8", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    _add_part(table, f"{report.figure} %, choosing", report.choosing, report.attempts[-1].figure)
    _add_part(table, f"{report.figure} %, deciding", report.deciding, report.after)
    table.add_row("ms", f"{report.float_ms:.1f}", f"{report.int8_ms:.1f}", "one request at a time")
    table.add_row(
        "CPU ms", f"{report.float_cpu_ms:.1f}", f"{report.int8_cpu_ms:.1f}", "what a busy machine hardly changes"
    )
    table.add_row("file", mebibytes(report.float_bytes), mebibytes(report.int8_bytes), "")
    console.print(table)
    say(
        f"decided on {report.deciding.judged_on}, chosen on {report.choosing.judged_on}, calibrated on "
        f"{report.calibration_pictures}: no picture twice"
    )
    if report.uncertainty:
        say(f"deciding: {report.uncertainty}")
    steps = ", ".join(f"{each.in_float} in float: {each.figure:.1f}" for each in report.attempts)
    say(f"tried: {steps}")
    _print_layers(report, console)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, style="yellow")
    if report.accepted:
        say(report.verdict)


def _add_part(table: Table, name: str, part: Part, after: float | None) -> None:
    measured = "-" if after is None else f"{after:.1f}"
    verdict = "nothing to decide" if after is None else "ok" if after >= part.least else "FAILED"
    table.add_row(name, f"{part.before:.1f}", measured, f"at least {part.least:.1f}: {verdict}")


def _print_layers(report: Report, console: Console) -> None:
    say(
        f"{report.layers} convolutions in int8, {len(report.in_float)} left in float for what they do to decisions, "
        f"{report.depthwise} always: depthwise ones (one range for channels that have nothing in common), and "
        "OpenVINO's first"
    )
    if not report.in_float:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("left in float", overflow="fold")
    table.add_column("boxes lost or moved by it alone", justify="right", no_wrap=True)
    worst: Sequence[tuple[str, float]] = sorted(report.in_float.items(), key=lambda each: -each[1])
    for layer, loss in worst[:LAYERS_SHOWN]:
        table.add_row(layer, f"{100 * loss:.2f} %")
    if len(worst) > LAYERS_SHOWN:
        table.add_row(f"and {len(worst) - LAYERS_SHOWN} more", f"< {100 * worst[LAYERS_SHOWN - 1][1]:.2f} %")
    console.print(table)
