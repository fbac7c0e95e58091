"""1:1 figures: those of scikit-learn, of scipy, and of a count by hand; ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn import metrics

from pipeline.errors import GalleryError
from pipeline.gallery.operating_point import OperatingPoint, carry, percent, upper_bound
from pipeline.gallery.verification import Verification, far_point

GRID = st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=4, max_size=80)
"""Similarities in eighths: exact in float32, and full of ties."""


def make(rows: list[tuple[int, bool]]) -> Verification | None:
    similarities = np.array([each for each, _ in rows], np.float32) / 8
    same = np.array([each for _, each in rows], bool)
    return Verification(similarities, same) if same.any() and not same.all() else None


def two_normals(pairs: int, apart: float, seed: int = 0) -> Verification:
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    return Verification((rng.normal(size=pairs) + apart * same).astype(np.float32), same)


# ---- ROC


@given(GRID)
def test_roc_and_auc_are_those_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    if (verification := make(rows)) is None:
        return
    far, tar, thresholds = metrics.roc_curve(verification.same, verification.similarities, drop_intermediate=False)
    ours = verification.roc
    np.testing.assert_array_equal(ours[0], thresholds)
    np.testing.assert_allclose(ours[1], far)
    np.testing.assert_allclose(ours[2], tar)
    assert verification.auc == pytest.approx(metrics.roc_auc_score(verification.same, verification.similarities))


@given(GRID)
def test_eer_is_where_the_straight_roc_meets_the_diagonal(rows: list[tuple[int, bool]]) -> None:
    if (verification := make(rows)) is None:
        return
    _, far, tar = verification.roc
    steps = np.arange(len(far))
    root = optimize.brentq(lambda at: np.interp(at, steps, far) - 1 + np.interp(at, steps, tar), 0, len(far) - 1)
    assert verification.eer == pytest.approx(np.interp(root, steps, far), abs=1e-9)


def test_eer_of_two_normal_distributions_is_the_closed_form() -> None:
    assert two_normals(200_000, 3.0).eer == pytest.approx(stats.norm.cdf(-1.5), abs=0.002)


def test_equal_similarities_are_judged_together() -> None:
    verification = Verification(np.array([0.5, 0.5, 0.5, 0.1], np.float32), np.array([True, True, False, False]))
    thresholds, far, tar = verification.roc
    assert thresholds.tolist() == [np.inf, 0.5, pytest.approx(0.1)]
    assert far.tolist() == [0, 0.5, 1]
    assert tar.tolist() == [0, 1, 1]
    assert verification.auc == pytest.approx(0.75)
    assert verification.threshold_for(0.49).threshold > 0.5
    assert verification.tar(verification.threshold_for(0.49).threshold) == 0


# ---- thresholds


@given(GRID, st.floats(0.01, 0.99))
def test_threshold_for_a_far_is_the_lowest_that_holds_it(rows: list[tuple[int, bool]], far: float) -> None:
    if (verification := make(rows)) is None:
        return
    different = verification.similarities[~verification.same]
    point = verification.threshold_for(far)
    assert point.errors == np.sum(different >= point.threshold)
    assert point.observed == pytest.approx(point.errors / len(different))
    assert point.observed <= far + 1e-9
    lower = np.nextafter(np.float32(point.threshold), np.float32(-np.inf))
    assert np.mean(different >= lower) > far


@given(GRID)
def test_best_threshold_has_the_highest_accuracy_of_all(rows: list[tuple[int, bool]]) -> None:
    if (verification := make(rows)) is None:
        return
    candidates = [*np.unique(verification.similarities), 2.0]
    accuracies = [balanced(verification, threshold) for threshold in candidates]
    assert balanced(verification, verification.best_threshold) == pytest.approx(max(accuracies))
    stricter = [t for t, value in zip(candidates, accuracies, strict=True) if value > max(accuracies) - 1e-9][-1]
    assert verification.best_threshold <= stricter
    assert np.sum(verification.similarities >= verification.best_threshold) == np.sum(
        verification.similarities >= stricter
    )


def balanced(verification: Verification, threshold: float) -> float:
    accepted = verification.similarities >= threshold
    return float((accepted[verification.same].mean() + 1 - accepted[~verification.same].mean()) / 2)


def test_best_threshold_lies_in_the_middle_of_the_gap() -> None:
    verification = Verification(np.array([0.9, 0.7, 0.3, 0.1]), np.array([True, True, False, False]))
    assert verification.best_threshold == pytest.approx(0.5)


def test_accuracy_takes_blocks_of_each_kind_and_a_threshold_from_the_others() -> None:
    verification = two_normals(1003, 2.0)
    accuracy = verification.accuracy
    same, different = (verification.similarities[verification.same == each] for each in (True, False))
    results = []
    for fold in range(10):
        blocks = [np.array_split(each, 10) for each in (same, different)]
        rest = [np.concatenate([b for i, b in enumerate(each) if i != fold]) for each in blocks]
        best, chosen = -1.0, 0.0
        for threshold in np.unique(np.concatenate(rest)):
            value = (np.mean(rest[0] >= threshold) + np.mean(rest[1] < threshold)) / 2
            if value >= best:
                best, chosen = value, threshold
        results.append((np.mean(blocks[0][fold] >= chosen) + np.mean(blocks[1][fold] < chosen)) / 2)
    assert accuracy.folds == 10
    assert accuracy.mean == pytest.approx(np.mean(results), abs=1e-9)
    assert accuracy.error == pytest.approx(stats.sem(results), abs=1e-9)
    assert accuracy.mean == pytest.approx(stats.norm.cdf(1.0), abs=0.03)


def test_a_fold_is_judged_by_a_threshold_that_it_did_not_choose() -> None:
    """Fold 0 alone lies the other way round: chosen on itself it would be right, chosen on the others it is wrong."""
    same = np.tile([True, False], 20)
    similarities = np.where(same, 0.8, 0.2)
    similarities[:4] = [0.1, 0.0, 0.1, 0.0]
    accuracy = Verification(similarities, same).accuracy
    assert accuracy.mean == pytest.approx((9 * 1.0 + 0.5) / 10)


# ---- bounds


@pytest.mark.parametrize("trials", [1, 7, 50, 1225])
def test_bound_without_errors_is_the_rule_of_three(trials: int) -> None:
    assert upper_bound(0, trials) == pytest.approx(1 - 0.05 ** (1 / trials))
    if trials > 30:
        assert upper_bound(0, trials) == pytest.approx(3 / trials, rel=0.06)


@pytest.mark.parametrize(("errors", "trials"), [(1, 20), (3, 40), (19, 20), (250, 1000)])
def test_bound_is_the_rate_at_which_so_few_errors_happen_once_in_twenty(errors: int, trials: int) -> None:
    bound = upper_bound(errors, trials)
    assert stats.binom.cdf(errors, trials, bound) == pytest.approx(0.05)
    assert bound == pytest.approx(stats.binomtest(errors, trials, alternative="less").proportion_ci(0.95).high)
    assert upper_bound(trials, trials) == 1.0


def test_few_comparisons_are_said_not_to_support_a_far() -> None:
    point = far_point(np.linspace(-0.2, 0.2, 1225, dtype=np.float32), 0.0005)
    assert not point.supported
    assert point.sentence == ("0 errors in 1,225 comparisons only show a FAR below 0.24 %: 0.05 % takes 5,990 or more")
    assert far_point(np.zeros(2995), 0.001).supported
    assert not far_point(np.zeros(2994), 0.001).supported
    assert far_point(np.zeros(2995), 0.001).bound <= 0.001


def test_enough_comparisons_state_rate_and_bound() -> None:
    point = far_point(np.arange(1000) / 1000, 0.01)
    assert point.errors == 10
    assert point.sentence == "10 errors in 1,000 comparisons: FAR 1 %, with 95 % confidence below 1.7 %"


def test_a_rate_carried_on_is_that_of_as_many_independent_comparisons() -> None:
    assert carry(0.05, 100 / 40) == pytest.approx(1 - 0.95**2.5)
    assert carry(0.0, 9) == 0
    assert carry(1.0, 9) == 1


@pytest.mark.parametrize(
    ("rate", "text"), [(0.0, "0 %"), (0.002442, "0.24 %"), (0.1203, "12 %"), (0.9999, "100 %"), (1e-5, "0.001 %")]
)
def test_percent_has_two_digits(rate: float, text: str) -> None:
    assert percent(rate) == text


# ---- refusals


@pytest.mark.parametrize(
    ("similarities", "same", "words"),
    [
        ([0.1, np.nan], [True, False], "1 of 2 similarities is not finite"),
        ([0.1, 0.2], [True, True], "none of the 2 pairs is of two people"),
        ([0.1, 0.2], [False, False], "none of the 2 pairs is of one person"),
    ],
)
def test_what_cannot_be_measured_is_refused(similarities: list[float], same: list[bool], words: str) -> None:
    with pytest.raises(GalleryError, match=words):
        Verification(np.array(similarities), np.array(same))


def test_one_pair_of_each_kind_is_too_few_for_folds() -> None:
    verification = Verification(np.array([0.9, 0.1]), np.array([True, False]))
    assert (verification.auc, verification.eer) == (1.0, 0.0)
    with pytest.raises(GalleryError, match="two pairs of one person"):
        _ = verification.accuracy


@pytest.mark.parametrize("far", [0.0, 1.0, -0.1, np.nan])
def test_a_far_that_is_none_is_refused(far: float) -> None:
    with pytest.raises(GalleryError, match="give a rate between 0 and 1"):
        far_point(np.zeros(10), far)


def test_no_comparison_between_two_people_is_refused() -> None:
    with pytest.raises(GalleryError, match="no comparison between two people"):
        far_point(np.zeros(0), 0.01)


@pytest.mark.parametrize("wrong", [{"bound": 0.001}, {"errors": 11}, {"people": 0, "searched": 0}, {"people": 3}])
def test_an_operating_point_that_contradicts_itself_is_refused(wrong: dict[str, float]) -> None:
    good = {"threshold": 0.5, "asked": 0.01, "observed": 0.1, "bound": 0.4, "errors": 1, "comparisons": 10}
    OperatingPoint(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rates|errors|people"):
        OperatingPoint(**good | wrong)  # type: ignore[arg-type]
