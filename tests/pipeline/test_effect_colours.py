"""Colours of classes go by their names; a background that cannot be is refused with what would be right."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.config.load import Override, load_settings, parse_set
from pipeline.config.look_settings import SegmentSettings
from pipeline.errors import ConfigError
from pipeline.render.backgrounds import Backgrounds, colour_of
from pipeline.render.colours import APART, colours_of
from pipeline.render.effect import Effect
from pipeline.render.theme import COLOUR_BLIND, MONO, VIVID, Theme
from tests.e2e.program import frameloom

CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
"""The eleven classes of Brostow et al., "Semantic object classes in video" (2009), as SegNet grouped them."""


def distances(colours: tuple[tuple[int, int, int], ...]) -> list[float]:
    each = np.array(colours, float)
    return [float(np.linalg.norm(each[a] - each[b])) for a in range(len(each)) for b in range(a)]


@pytest.mark.parametrize(("theme", "labels"), [(VIVID, CAMVID), (COLOUR_BLIND, CAMVID[:7])])
def test_no_two_classes_of_a_map_look_alike(theme: Theme, labels: tuple[str, ...]) -> None:
    assert min(distances(colours_of(labels, theme))) >= APART


def test_a_person_is_tinted_as_their_box_is_drawn_whatever_the_model_counts() -> None:
    for labels in (("background", "person"), ("person",), ("sky", "person", "dog")):
        assert colours_of(labels, VIVID)[labels.index("person")] == VIVID.of_class(0)


def test_a_class_keeps_its_colour_from_model_to_model() -> None:
    alone = {label: colours_of((label,), VIVID)[0] for label in CAMVID}
    for labels in (CAMVID, tuple(reversed(CAMVID))):
        same = [alone[label] == colour for label, colour in zip(labels, colours_of(labels, VIVID), strict=True)]
        assert same[0]
        assert sum(same) >= len(labels) // 3  # the others had to give way


def test_where_there_are_fewer_colours_than_classes_some_are_used_again() -> None:
    assert set(colours_of(CAMVID, MONO)) == {(255, 255, 255)}
    assert set(colours_of(CAMVID, COLOUR_BLIND)) <= set(COLOUR_BLIND.classes)
    assert len(colours_of(tuple(f"class {number}" for number in range(256)), VIVID)) == 256


@pytest.mark.parametrize(
    ("text", "colour"),
    [("#00b140", (0x40, 0xB1, 0)), ("#FFF", (255, 255, 255)), ("#0b4", (0x44, 0xBB, 0)), ("#1234", None), ("f", None)],
)  # fmt: skip
def test_colours_are_read(text: str, colour: tuple[int, int, int] | None) -> None:
    assert colour_of(text) == colour


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("#00b14", "'#00b14' is no colour: write # and three or six digits 0..9, a..f, such as #00b140"),
        ("#00g140", "'#00g140' is no colour: write # and three or six digits 0..9, a..f, such as #00b140"),
        (
            "beach.png",
            "'beach.png' is neither a colour nor a file that is there: write a colour such as #00b140, or the path of "
            "an image",
        ),
        (".", "'.' is a folder: write a colour such as #00b140, or the path of an image"),
        ("text.jpg", "'text.jpg' is no image that can be read: name one, or a colour such as #00b140"),
        ("half.png", "'half.png' is no image that can be read: name one, or a colour such as #00b140"),
    ],
)
def test_a_background_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jpg").write_text("a beach")
    cv2.imwrite("whole.png", np.random.default_rng(0).integers(0, 255, (50, 50, 3)))
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    (tmp_path / "config.yaml").write_text(f"segment: {{effect: replace-background, background: '{value}'}}\n")
    with pytest.raises(ConfigError) as refused:
        load_settings(Path("config.yaml"))
    assert f"config.yaml:1:51: segment.background: {complaint}" in str(refused.value)


@pytest.mark.parametrize("colour", ["#00b140", "#0b4"])
def test_a_colour_on_the_command_line_is_no_comment(colour: str) -> None:
    overrides = [parse_set(f"segment.background={colour}"), parse_set("segment.effect=replace-background")]
    assert load_settings(None, overrides).settings.segment.background == colour


def test_a_colour_without_quotes_in_a_file_is_a_comment_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("segment:\n  background: #00b140\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2:14: segment\.background: .*write a colour in quotes"):
        load_settings(Path("config.yaml"))


def test_the_command_that_checks_a_configuration_sees_a_background_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("segment: {effect: replace-background, background: beach.png}\n")
    done = frameloom("config", "check", cwd=tmp_path)
    assert done.code == 2
    assert "segment.background: 'beach.png' is neither a colour nor a file that is there" in done.error


def test_an_image_that_goes_between_check_and_run_is_missed_when_the_run_is_put_together(tmp_path: Path) -> None:
    path = tmp_path / "beach.png"
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    overrides = [Override("segment.background", str(path), "x"), Override("segment.effect", "replace-background", "x")]
    settings = load_settings(None, overrides).settings.segment
    path.unlink()
    with pytest.raises(ConfigError, match=r"segment\.background: '.*beach\.png' is no image that can be read"):
        Effect(settings)
    Effect(SegmentSettings(effect="cut-out"))


def test_backgrounds_are_kept_but_not_without_end(tmp_path: Path) -> None:
    from pipeline.picture import Picture
    from pipeline.render.backgrounds import KEPT

    backgrounds = Backgrounds("#00b140")
    pictures = [Picture(bgr=np.zeros((4, 4 + number, 3), np.uint8)) for number in range(KEPT + 1)]
    first = backgrounds.like(pictures[0])
    assert backgrounds.like(pictures[0]) is first
    for picture in pictures[1:]:
        backgrounds.like(picture)
    assert backgrounds.like(pictures[0]) is not first
