"""The similarity head learns: on people who were not learned from it beats a head that learned nothing, and the plain
similarity where dimensions differ in what they tell.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from engines.zoo import Zoo
from pipeline.errors import ConfigError
from pipeline.gallery.similarity_head import FORMS, SimilarityHead, features
from tools.train import similarity
from tools.train.similarity import people_of, read_pairs
from tools.train.similarity_fit import Pairs, _logistic, fit, log_loss, split_by_person

EMBEDDER = "ef" * 32


def noisy_people(people: int = 120, each: int = 6, seed: int = 0) -> Pairs:
    """Unit vectors of 32 numbers, of which 24 are mostly noise and the plain similarity trusts them all alike."""
    rng = np.random.default_rng(seed)
    noise = np.concatenate([np.full(8, 0.5), np.full(24, 2.5)])
    rows = rng.normal(size=(people, 1, 32)) + noise * rng.normal(size=(people, each, 32))
    rows = np.float32(rows / np.linalg.norm(rows, axis=2, keepdims=True))
    who = rng.integers(people, size=2000)
    other = np.where(np.arange(2000) % 2 == 0, who, (who + rng.integers(1, people, size=2000)) % people)
    first = rng.integers(each, size=2000)
    second = (first + rng.integers(1, each, size=2000)) % each
    return Pairs(rows[who, first], rows[other, second], who == other, np.stack([who, other], axis=1))


# ---- learning


def test_held_out_people_are_told_apart_better_than_by_the_plain_similarity() -> None:
    learned = fit(noisy_people(), EMBEDDER)
    plain, *heads = learned.scores
    assert [score.name for score in learned.scores] == ["similarity", *FORMS]
    for head in heads:
        assert head.auc > plain.auc + 0.05
        assert head.accuracy > plain.accuracy + 0.04
        assert head.log_loss < plain.log_loss - 0.1
    assert learned.head.embedder == EMBEDDER


def test_held_out_loss_falls_from_that_of_a_head_that_learned_nothing() -> None:
    pairs = noisy_people()
    _, held_out = split_by_person(pairs)
    learned = fit(pairs, EMBEDDER)
    untrained = SimilarityHead(np.zeros(32, np.float32), 0.0, learned.head.form, EMBEDDER)
    before, after = (log_loss(head.logit(held_out.a, held_out.b), held_out.same) for head in (untrained, learned.head))
    assert before == pytest.approx(np.log(2))
    assert after < 0.6 * before


def test_what_tells_most_weighs_most() -> None:
    weights = fit(noisy_people(), EMBEDDER).head.weights
    assert weights[:8].max() < 0
    assert abs(weights[:8]).mean() > 3 * abs(weights[8:]).mean()


def test_nothing_is_learned_from_labels_that_mean_nothing() -> None:
    """A test that sees the people it was trained on would not notice."""
    pairs = noisy_people()
    shuffled = Pairs(pairs.a, pairs.b, np.random.default_rng(1).permutation(pairs.same), pairs.people)
    for score in fit(shuffled, EMBEDDER).scores:
        assert score.auc == pytest.approx(0.5, abs=0.1)


def test_scores_are_those_of_scikit_learn_on_the_saved_head() -> None:
    pairs = noisy_people()
    _, held_out = split_by_person(pairs)
    learned = fit(pairs, EMBEDDER)
    score = next(each for each in learned.scores if each.name == learned.head.form)
    probability = learned.head.probability(held_out.a, held_out.b).astype(float)
    weights = np.where(held_out.same, 0.5 / held_out.same.mean(), 0.5 / (~held_out.same).mean())
    assert score.auc == pytest.approx(metrics.roc_auc_score(held_out.same, probability), abs=1e-4)
    assert score.accuracy == pytest.approx(metrics.balanced_accuracy_score(held_out.same, probability > 0.5))
    assert score.log_loss == pytest.approx(
        metrics.log_loss(held_out.same, probability, sample_weight=weights), abs=1e-4
    )


def test_standardisation_is_folded_into_the_weights() -> None:
    pairs = noisy_people()
    rows = features(pairs.a, pairs.b, "absolute") * np.float32(7) + np.float32(3)
    weights, bias = _logistic(rows, pairs.same, 0.1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced"))
    np.testing.assert_allclose(rows @ weights + bias, model.fit(rows, pairs.same).decision_function(rows), atol=2e-2)


# ---- people


def test_nobody_is_in_both_parts() -> None:
    pairs = noisy_people()
    training, held_out = split_by_person(pairs)
    assert not set(training.people.ravel()) & set(held_out.people.ravel())
    assert len(training) + len(held_out) < len(pairs)
    assert len(np.unique(held_out.people)) == pytest.approx(0.3 * 120, abs=1)
    learned = fit(pairs, EMBEDDER)
    assert (learned.training, learned.held_out) == (len(training), len(held_out))
    assert learned.training + learned.held_out + learned.left_out == 2000


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        ([("ann/1", "ann/2", True), ("ann/1", "ben/1", False)], [{"ann/1", "ann/2"}, {"ben/1"}]),
        ([("x/1", "x/2", True), ("x/2", "x/3", True), ("x/1", "x/4", False)], [{"x/1", "x/2", "x/3"}, {"x/4"}]),
        ([("1", "2", True), ("3", "4", True), ("2", "3", False)], [{"1", "2"}, {"3", "4"}]),
        ([("ann/1", "more/2", True), ("ann/1", "ben/1", False)], [{"ann/1", "more/2"}, {"ben/1"}]),
    ],
    ids=["folders", "one folder", "no folders", "folders that the labels contradict"],
)
def test_people_are_folders_or_what_the_labels_connect(
    rows: Sequence[tuple[str, str, bool]], groups: list[set[str]]
) -> None:
    people = people_of(rows)
    found = [{image for image, person in people.items() if person == each} for each in dict.fromkeys(people.values())]
    assert sorted(found, key=min) == sorted(groups, key=min)


# ---- the command


@pytest.fixture
def train() -> typer.Typer:
    app = typer.Typer()
    app.command()(similarity.similarity)
    return app


def test_real_faces_are_learned_from_by_the_command(
    train: typer.Typer, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of LFW's development pairs: too few to beat a good encoder, enough to be far better than chance."""
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    lfw = shared / "data" / "faces" / "lfw"
    with (lfw / "pairs.csv").open() as file:
        header, *rows = csv.reader(file)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows[:120], *rows[-120:], [rows[0][0], "missing.jpg", "0"]])
    out = tmp_path / "head.npz"
    options = {
        "pairs": tmp_path / "pairs.csv",
        "images": lfw,
        "out": out,
        "embedder": "mobilefacenet",
        "finder": "yunet",
    }
    result = CliRunner().invoke(train, [f"--{name}={value}" for name, value in options.items()])
    assert result.exit_code == 0, result.output
    assert "1 picture left out, such as missing.jpg: does not exist" in result.output
    line = next(line for line in result.output.splitlines() if "(saved)" in line)
    accuracy, auc, loss = (float(word) for word in line.split()[-3:])
    assert accuracy > 0.9
    assert auc > 0.95
    assert loss < 0.35
    sha256 = Zoo.load().spec("mobilefacenet", task="face-encode").sha256
    assert sha256
    assert len(SimilarityHead.load(out, sha256).weights) == 128


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_a,image_b,same\na,b,yes\n", "same is 'yes', it must be 0 or 1"),
        ("image_a,same\na,1\n", "has no column 'image_b'"),
        ("image_a,image_b,same\n", "has no rows"),
    ],
)
def test_a_file_that_holds_no_pairs_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_pairs(tmp_path / "pairs.csv")


def test_too_few_people_are_refused() -> None:
    pairs = noisy_people()
    few = pairs[(pairs.people < 6).all(axis=1)]
    with pytest.raises(ConfigError, match=r"too few pairs .* give more pairs, of more people"):
        fit(few, EMBEDDER)


def test_without_scikit_learn_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ConfigError, match=r"pip install 'frameloom\[train\]'"):
        fit(noisy_people(), EMBEDDER)
