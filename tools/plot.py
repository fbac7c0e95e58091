"""A calibration as one picture: the ROC, the similarities, and how errors grow with the gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.gallery.operating_point import percent
from tools.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pipeline.gallery.identification import Searches
    from pipeline.gallery.operating_point import OperatingPoint
    from pipeline.gallery.verification import Verification

SAME, DIFFERENT, THRESHOLD = "tab:blue", "tab:orange", "tab:red"
WIDTH_INCHES, HEIGHT_INCHES = 5.2, 4.4
BINS = 60
BEYOND = 10
"""The growth of the gallery is drawn to so many times its size."""


def plot_calibration(
    path: Path,
    title: str,
    verification: Verification | None = None,
    verify: OperatingPoint | None = None,
    searches: Searches | None = None,
    identify: OperatingPoint | None = None,
) -> None:
    """Draw what there is, side by side, as a PNG.

    Args:
        path: of the picture.
        title: what was calibrated.
        verification: labelled comparisons, for the ROC and the similarities.
        verify: the 1:1 threshold.
        searches: for strangers, for the FPIR over the gallery's size.
        identify: the 1:N threshold; without it there is no FPIR to draw.

    Raises:
        ConfigError: matplotlib is missing, there is nothing to draw, or the file cannot be written.
    """
    panels: list[tuple[Any, ...]] = []
    if verification is not None:
        panels += [(draw_roc, verification, verify), (draw_similarities, verification, verify, identify)]
    if searches is not None and identify is not None:
        panels.append((draw_growth, searches, identify))
    if not panels:
        raise ConfigError(f"nothing to draw in {path}: there are neither labelled pairs nor searches for strangers")
    figure = new_figure(WIDTH_INCHES * len(panels), HEIGHT_INCHES, title)
    for number, (draw, *values) in enumerate(panels, start=1):
        draw(figure.add_subplot(1, len(panels), number), *values)
    save_figure(figure, path)


def draw_roc(axes: Axes, verification: Verification, verify: OperatingPoint | None) -> None:
    """Draw TAR over FAR, the FAR on a logarithmic axis that begins where one comparison is accepted."""
    _, far, tar = verification.roc
    least = float(far[far > 0][0])
    axes.step(np.maximum(far, least / 2), tar, where="post", color=SAME)
    axes.set_xscale("log")
    axes.set_xlim(least / 2, 1)
    axes.set_ylim(max(0.0, float(np.interp(least, far, tar)) - 0.1), 1.005)
    equal = np.geomspace(least / 2, 1, 100)
    axes.plot(equal, 1 - equal, ":", color="grey", linewidth=0.8, label="equal errors")
    if verify is not None:
        tar_there = verification.tar(verify.threshold)
        x = max(verify.observed, least / 2)
        axes.plot([x, min(verify.bound, 1)], [tar_there] * 2, color=THRESHOLD, linewidth=1, label="95 % bound of FAR")
        label = f"threshold {verify.threshold:.3f}: TAR {percent(tar_there)}"
        axes.plot(x, tar_there, "o", color=THRESHOLD, label=label)
    axes.legend(loc="lower right", fontsize="small")
    axes.set_title(f"1:1, EER {percent(verification.eer)}, AUC {verification.auc:.4f}")
    axes.set_xlabel("FAR: share of accepted pairs of two people")
    axes.set_ylabel("TAR: share of accepted pairs of one person")
    axes.grid(alpha=0.3, which="both")


def draw_similarities(
    axes: Axes, verification: Verification, verify: OperatingPoint | None, identify: OperatingPoint | None
) -> None:
    """Draw how the similarities of both kinds of pairs are distributed."""
    edges = np.linspace(verification.similarities.min(), verification.similarities.max() + 1e-6, BINS + 1)
    for same, colour, name in ((False, DIFFERENT, "two people"), (True, SAME, "one person")):
        values = verification.similarities[verification.same == same]
        label = f"{name}: {len(values):,} pairs"
        axes.hist(
            values, edges.tolist(), weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.6, label=label
        )
    for point, style, name in ((verify, "-", "1:1"), (identify, "--", "1:N")):
        if point is not None:
            label = f"{name} threshold {point.threshold:.3f}"
            axes.axvline(point.threshold, color=THRESHOLD, linestyle=style, label=label)
    axes.set_title("Similarities")
    axes.set_xlabel("similarity (1 = equal)")
    axes.set_ylabel("share of the pairs of a kind")
    axes.legend(fontsize="small")


def draw_growth(axes: Axes, searches: Searches, identify: OperatingPoint) -> None:
    """Draw the FPIR at the threshold over the size of the gallery, and what it is carried on to."""
    people, largest = identify.people or 1, searches.sizes[-1]
    end = BEYOND * people
    beyond = np.geomspace(largest, max(largest, end), 40)
    axes.plot(
        searches.sizes,
        100 * np.array(searches.curve(identify.threshold, searches.sizes)),
        "o-",
        color=SAME,
        label=f"measured by {searches.searches:,} searches",
    )
    carried = [100 * searches.fpir(identify.threshold, int(size)) for size in beyond]
    axes.plot(beyond, carried, ":", color=SAME, label="carried on by 1-(1-FAR)^G")
    axes.axhline(100 * identify.asked, color="grey", linewidth=0.8, linestyle="--", label="asked for")
    axes.errorbar(
        [people],
        [100 * identify.observed],
        [[0.0], [100 * (identify.bound - identify.observed)]],
        fmt="s",
        color=THRESHOLD,
        capsize=4,
        label=f"threshold {identify.threshold:.3f}, 95 % bound",
    )
    axes.set_xscale("log")
    axes.set_xlim(0.9, end)
    axes.set_ylim(0, 110 * max(identify.bound, identify.asked, searches.fpir(identify.threshold, end)))
    axes.set_title("1:N, strangers taken for somebody")
    axes.set_xlabel("people in the gallery")
    axes.set_ylabel("FPIR in %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
