"""What a network is shown: labels move with their picture, and everything follows from the seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

from pipeline.errors import ConfigError
from tools.labelled_maps import find_pairs
from tools.train import segment_data
from tools.train.segment_data import Classes, Maps, batches, changed, hold_out
from tools.train.segment_losses import IGNORED
from tools.train.segment_settings import SegmentSettings

PLAIN = SegmentSettings(height=32, width=48, batch=2, flip=False, zoom=1, colour=0)
CLASSES = Classes(("background", "square"), ignore=7)
WHITE = 200


def square(number: int) -> tuple[Any, Any]:
    """Return a picture, and where in it something bright is."""
    label = np.zeros((64, 96), np.uint8)
    label[8 + 2 * number : 40, 10 : 50 + 2 * number] = 1
    return np.repeat((label * WHITE)[..., None], 3, axis=2), label


@pytest.fixture
def maps(tmp_path: Path) -> Maps:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        picture, label = square(number)
        label[-1] = 7
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), picture)
        cv2.imwrite(str(tmp_path / f"labels/{number}.png"), label)
    return Maps(find_pairs(tmp_path / "images", tmp_path / "labels"), CLASSES)


def test_what_does_not_count_has_one_value_whatever_the_file_calls_it(maps: Maps) -> None:
    picture, label = maps[0]
    assert (label[-1] == IGNORED).all()
    assert set(np.unique(label[:-1])) == {0, 1}
    assert picture.shape == (64, 96, 3)


def test_what_does_not_fit_into_memory_is_read_again(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_data, "KEPT_BYTES", 60_000)  # two of 24,576
    again = Maps(maps.pairs, CLASSES)
    kept = [again[number][0] is again[number][0] for number in range(5)]
    assert kept == [True, True, False, False, False]
    for number in range(5):
        np.testing.assert_array_equal(again[number][1], maps[number][1])


def test_without_changes_a_picture_is_stretched_to_the_networks_size() -> None:
    picture, label = square(0)
    shown, classes = changed(picture, label, PLAIN, np.random.default_rng(0))
    wanted = cv2.resize(picture, (48, 32), interpolation=cv2.INTER_LINEAR)
    assert np.abs(shown.astype(int) - wanted).max() <= 1
    np.testing.assert_array_equal(classes, shown[..., 0] > WHITE / 2)


@pytest.mark.parametrize("options", [{"flip": True}, {"zoom": 2.0}, {"flip": True, "zoom": 1.5}])
def test_the_label_moves_with_the_picture(options: dict[str, float]) -> None:
    picture, label = square(3)
    drawn = []
    for seed in range(20):
        settings = replace(PLAIN, **options)  # type: ignore[arg-type]
        shown, classes = changed(picture, label, settings, np.random.default_rng(seed))
        inside = classes != IGNORED
        # the nearest pixel and the mean of four differ along edges, which are a few of 1,536 pixels
        differs = (classes == 1)[inside] != (shown[..., 0] > WHITE / 2)[inside]
        assert differs.mean() < 0.06
        assert (shown[~inside] <= segment_data.GREY).all()
        drawn.append(classes.tobytes())
    assert len(set(drawn)) > (1 if "zoom" not in options else 15)


def test_mirrored_pictures_are_mirror_images() -> None:
    picture, label = square(0)
    settings = replace(PLAIN, flip=True)
    seen = {changed(picture, label, settings, np.random.default_rng(seed))[1].tobytes() for seed in range(10)}
    plain = changed(picture, label, PLAIN, np.random.default_rng(0))[1]
    assert seen == {plain.tobytes(), plain[:, ::-1].tobytes()}


def test_zoom_shows_larger_and_smaller() -> None:
    picture, label = square(0)
    settings = replace(PLAIN, zoom=2.0)
    drawn = [changed(picture, label, settings, np.random.default_rng(seed))[1] for seed in range(40)]
    around = [(classes == IGNORED).mean() for classes in drawn]
    assert min(around) == 0
    assert 0.5 < max(around) < 0.8  # a half of each side is left: a quarter of the area


def test_colours_change_and_labels_do_not() -> None:
    picture, label = square(0)
    settings = replace(PLAIN, colour=0.3)
    shown, classes = changed(picture, label, settings, np.random.default_rng(1))
    plain = changed(picture, label, PLAIN, np.random.default_rng(1))
    np.testing.assert_array_equal(classes, plain[1])
    assert shown.dtype == np.uint8
    assert 5 < np.abs(shown.astype(int) - plain[0]).max() < 160


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own(maps: Maps) -> None:
    def shown(epoch: int, seed: int = 0) -> list[bytes]:
        drawn = batches(maps, replace(PLAIN, seed=seed), epoch)
        return [label.tobytes() for _, labels in drawn for label in labels]

    alone = [changed(*maps[number], PLAIN, np.random.default_rng(0))[1].tobytes() for number in range(5)]
    assert sorted(shown(0)) == sorted(alone)
    assert len(set(alone)) == 5
    assert shown(0) == shown(0)
    orders = {tuple(shown(epoch, seed)) for epoch in range(4) for seed in range(2)}
    assert len(orders) > 5
    assert [len(pictures) for pictures, _ in batches(maps, PLAIN, 0)] == [2, 2, 1]


def test_what_is_held_out_is_not_learnt_from() -> None:
    pairs = [(Path(f"{number}.jpg"), Path(f"{number}.png")) for number in range(10)]
    learn, test = hold_out(pairs, 0.2, seed=0)
    assert (len(learn), len(test)) == (8, 2)
    assert sorted([*learn, *test]) == pairs
    assert hold_out(pairs, 0.2, seed=0) == (learn, test)
    assert any(hold_out(pairs, 0.2, seed)[1] != test for seed in range(1, 5))
    assert [len(part) for part in hold_out(pairs[:2], 0.9, 0)] == [1, 1]
    with pytest.raises(ConfigError, match="one picture is too few"):
        hold_out(pairs[:1], 0.2, 0)


def test_classes_that_no_label_shows_are_named(maps: Maps) -> None:
    assert maps.unseen() == []
    assert Maps(maps.pairs, Classes(("background", "square", "circle"), 7)).unseen() == ["circle"]
    for _, file in maps.pairs:
        cv2.imwrite(str(file), np.full((64, 96), 7, np.uint8))
    with pytest.raises(ConfigError, match=r"no pixel of the labels .*0\.png to 4\.png counts: all are 7"):
        Maps(maps.pairs, CLASSES).unseen()
