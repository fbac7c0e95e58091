"""A threshold with what it is worth: the error rate that was asked for, seen, and bounded by the data.

A comparison is accepted where its similarity is >= the threshold. FAR is the share of accepted comparisons between two
people (1:1); FPIR the share of searches for a stranger that find somebody (1:N). Bounds are one-sided 95 % bounds
of Clopper and Pearson (1934), which hold for any number of errors; for none in n it is 1 - 0.05^(1/n), about 3/n (the
"rule of three"). They take comparisons to be independent; those that share a person are not quite, so the truth is
somewhat wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ConfigDict
from scipy.special import betaincinv

from pipeline.errors import GalleryError
from pipeline.gallery.words import counted, people

CONFIDENCE = 0.95
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""How these values are read back from a file."""


def upper_bound(errors: int, trials: int) -> float:
    """Return the largest rate that `errors` in `trials` do not rule out with 95 % confidence."""
    if errors >= trials:
        return 1.0
    return float(betaincinv(errors + 1, trials - errors, CONFIDENCE))  # the quantile of the beta distribution


def carry(rate: float, factor: float) -> float:
    """Return the rate in a gallery `factor` times as large: 1 - (1 - rate)^factor.

    From a FAR with `factor` people it makes the FPIR, where comparisons are independent.
    """
    return -math.expm1(factor * math.log1p(-rate)) if rate < 1 else 1.0


def check_rate(name: str, rate: float) -> None:
    """See that an error rate can be asked for.

    Raises:
        GalleryError: it is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise GalleryError(f"{name} {rate:g}: give a rate between 0 and 1, such as 0.01 for 1 %")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and the errors that it makes."""

    __pydantic_config__ = STRICT
    threshold: float
    """Similarity from which a comparison is accepted."""
    asked: float
    """The error rate that it was chosen for."""
    observed: float
    """The error rate in the data; for more people than were searched, what follows from it by `carry`."""
    bound: float
    """95 % upper bound of the error rate."""
    errors: int
    """Errors in the data. A mean over several galleries is rounded up."""
    comparisons: int
    """Comparisons between two people, or searches for a stranger."""
    people: int | None = None
    """Size of the gallery that is searched; None: the rate is a FAR."""
    searched: int | None = None
    """How many people the searches went through; where that is less than `people`, the rates are carried on."""

    def __post_init__(self) -> None:
        if not (0 < self.asked < 1 and 0 <= self.observed <= self.bound <= 1):
            raise ValueError(f"rates {self.asked:g}, {self.observed:g}, {self.bound:g} are none")
        if not 0 <= self.errors <= self.comparisons or self.comparisons < 1:
            raise ValueError(f"{self.errors} errors in {self.comparisons} comparisons")
        if (self.people is None) != (self.searched is None) or 0 in (self.people, self.searched):
            raise ValueError(f"{self.people} people of whom {self.searched} were searched")

    @property
    def rate_name(self) -> str:
        """`FAR` or `FPIR`."""
        return "FAR" if self.people is None else "FPIR"

    @property
    def extrapolated(self) -> bool:
        """Whether the gallery is larger than any that was searched."""
        return self._growth > 1

    @property
    def least_bound(self) -> float:
        """The bound that this much data gives at best: without any error."""
        return carry(upper_bound(0, self.comparisons), self._growth)

    @property
    def supported(self) -> bool:
        """Whether there is enough data to show the rate that was asked for, if no error occurred."""
        return self.least_bound <= self.asked

    @property
    def sentence(self) -> str:
        """What the data says about the rate, for a person."""
        if self.searched is None:
            trials = counted(self.comparisons, "comparison")
        else:
            searches = counted(self.comparisons, "search", "searches")
            trials = f"{searches} for a stranger among {people(self.searched)}"
        seen = f"{counted(self.errors, 'error')} in {trials}"
        carried = f", carried on to {people(self.people or 0)} by 1-(1-FAR)^G" if self.extrapolated else ""
        if self.supported:
            return (
                f"{seen}{carried}: {self.rate_name} {percent(self.observed)}, "
                f"with 95 % confidence below {percent(self.bound)}"
            )
        shows = "only shows" if self.errors == 1 else "only show"
        return (
            f"{seen}{carried} {shows} a {self.rate_name} below {percent(self.bound)}: "
            f"{percent(self.asked)} takes {self._needed:,} or more"
        )

    @property
    def _growth(self) -> float:
        return max(1.0, self.people / self.searched) if self.people and self.searched else 1.0

    @property
    def _needed(self) -> int:
        """Comparisons without error that show the asked rate."""
        return math.ceil(self._growth * math.log(1 - CONFIDENCE) / math.log1p(-self.asked))


def percent(rate: float) -> str:
    """Return a rate with two significant digits, in per cent."""
    value = 100 * rate
    return f"{value:.0f} %" if value >= 99.5 or value == 0 else f"{value:.2g} %"
