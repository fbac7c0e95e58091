"""What a style network learns from: which files are read, which part of a video, and that crops can be repeated."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools.train import style_data
from tools.train.style_data import LARGEST, centre, crop, read_pictures, texture

NOWHERE = Path("nowhere")


def read(*places: Path, leave_out: Path = NOWHERE) -> tuple[list[Image], list[str]]:
    said: list[str] = []
    return read_pictures(places, leave_out, said.append), said


def photo(path: Path, height: int = 90, width: int = 120, value: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))
    return path


def video(path: Path, frames: int, keyframe_every: int = 250) -> Path:
    """A video whose frames tell their number: 16 columns, white where the bit is set."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", 25, options={"g": str(keyframe_every)})
        stream.width, stream.height = 128, 96
        for number in range(frames):
            columns = np.repeat(number >> np.arange(16) & 1, 8) * 255
            picture = np.broadcast_to(columns[:, None], (96, 128, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
        container.mux(stream.encode(None))
    return path


def numbers(frames: list[Image]) -> list[int]:
    return [int((frame.mean(axis=(0, 2)).reshape(16, 8).mean(axis=1) > 128) @ (1 << np.arange(16))) for frame in frames]


def shades(pictures: list[Image]) -> list[int]:
    return [round(float(picture.mean())) for picture in pictures]


def test_photos_are_read_from_folders_and_files_in_order(tmp_path: Path) -> None:
    for number, name in enumerate(("b.JPG", "a/c.png", "a/d.webp")):
        photo(tmp_path / "in" / name, value=50 * number)
    (tmp_path / "in/notes.txt").write_text("no picture")
    pictures, said = read(tmp_path / "in", photo(tmp_path / "e.bmp", value=200))
    assert [round(shade, -1) for shade in shades(pictures)] == [50, 100, 0, 200]
    assert said == []


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    pictures, _ = read(photo(tmp_path / "a.png", 700, 2 * LARGEST))
    assert pictures[0].shape == (350, LARGEST, 3)


def test_what_cannot_be_read_or_is_tiny_is_left_out_and_said(tmp_path: Path) -> None:
    photo(tmp_path / "good.png")
    photo(tmp_path / "icon.png", 16, 16)
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    pictures, said = read(tmp_path)
    assert len(pictures) == 1
    assert said == ["note: 3 of 4 files cannot be read, or are smaller than 64 pixels"]


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent: there is no such file or folder"):
        read(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"no picture in .*: give folders of photos, or videos"):
        read(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ConfigError, match=r"no picture in .*notes.txt"):
        read(tmp_path / "notes.txt")


def test_previews_of_the_training_itself_are_not_learnt_from(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", value=60)
    photo(tmp_path / "mine/preview.png", value=90)
    assert shades(read(tmp_path, leave_out=tmp_path / "mine")[0]) == [60]


def test_of_too_many_files_some_are_read_spread_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style_data, "MOST_PICTURES", 4)
    for number in range(10):
        photo(tmp_path / f"{number}.png", value=20 * number)
    pictures, said = read(tmp_path)
    assert shades(pictures) == [0, 60, 120, 180]
    assert said == ["note: one in 3 of the 10 files is read: 4 pictures are enough"]


@pytest.mark.parametrize("near", [250, 3])
def test_frames_are_spread_over_a_video_whether_decoded_or_sought(
    near: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style_data, "NEAR", near)
    pictures, said = read(video(tmp_path / "v.avi", frames=120, keyframe_every=12))
    assert said == []
    assert numbers(pictures) == [5 + 10 * part for part in range(12)]


def test_of_a_long_video_little_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "v.avi", frames=4800, keyframe_every=50)
    grabbed: list[int] = []
    frame_at = style_data._frame_at

    class Counted:
        def __init__(self, opened: cv2.VideoCapture) -> None:
            self.get, self.set, self.read, self._grab = opened.get, opened.set, opened.read, opened.grab

        def grab(self) -> bool:
            grabbed.append(1)
            return bool(self._grab())

    monkeypatch.setattr(style_data, "_frame_at", lambda opened, number: frame_at(Counted(opened), number))  # type: ignore[arg-type]
    pictures, _ = read(path)
    assert numbers(pictures) == [200 + 400 * part for part in range(12)]
    assert len(grabbed) <= 250


def test_a_short_video_gives_each_frame_once(tmp_path: Path) -> None:
    pictures, _ = read(video(tmp_path / "v.avi", frames=5))
    assert numbers(pictures) == [0, 1, 2, 3, 4]


def test_a_video_that_does_not_say_how_long_it_is_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(tmp_path / "v.mp4", frames=100)
    monkeypatch.setattr(cv2, "CAP_PROP_FRAME_COUNT", 9999)  # a property that no video has: 0
    pictures, _ = read(path)
    assert numbers(pictures) == [15, 45, 75]


def test_a_crop_follows_from_the_seed_and_its_number_alone() -> None:
    chance = np.random.default_rng(0)
    pictures = [chance.integers(0, 256, (100, 140, 3), np.uint8) for _ in range(3)]
    first = [crop(pictures, 64, 5, number) for number in range(30)]
    again = [crop(pictures, 64, 5, number) for number in reversed(range(30))]
    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(not np.array_equal(one, other) for one, other in pairwise(first))
    assert not np.array_equal(crop(pictures, 64, 6, 0), first[0])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 300), (300, 65)])
def test_no_crop_leaves_the_picture(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a picture that tells each place's row and column, every crop has neighbouring ones in order."""
    monkeypatch.setattr(style_data, "SYNTHETIC", 0.0)
    cut: list[Image] = []

    def spy(picture: Image, size: int) -> Image:
        cut.append(picture)
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr(style_data, "_to_size", spy)
    places = np.zeros((height, width, 3), np.uint16)
    places[..., 0], places[..., 1] = np.arange(height)[:, None], np.arange(width)
    for number in range(200):
        crop([places], 32, 1, number)  # type: ignore[list-item]
    sides = [part.shape[0] for part in cut]
    assert all(part.shape == (side, side, 3) for part, side in zip(cut, sides, strict=True))
    short = min(height, width)
    assert round(0.4 * short) <= min(sides) < 0.5 * short
    assert 0.9 * short < max(sides) <= short
    for part, side in zip(cut, sides, strict=True):
        assert int(part[-1, 0, 0]) - int(part[0, 0, 0]) == side - 1
        assert int(part[0, -1, 1]) - int(part[0, 0, 1]) == side - 1
    assert {int(part[0, 0, 0]) for part in cut} >= {0}
    assert max(int(part[-1, -1, 1]) for part in cut) == width - 1


def test_a_tenth_of_the_crops_are_textures() -> None:
    grey = [np.full((80, 80, 3), 128, np.uint8)]
    flat = sum(float(crop(grey, 32, 0, number).std()) == 0 for number in range(300))
    assert 250 < flat < 290


@pytest.mark.parametrize("seed", range(4))
def test_textures_have_light_and_dark_in_colour(seed: int) -> None:
    picture = texture(64, np.random.default_rng(seed))
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert float(picture.std()) > 20
    assert float(np.ptp(picture.astype(int), axis=2).mean()) > 20


def test_the_centre_is_the_largest_square_in_the_middle() -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, 20:80] = 200
    assert centre(picture, 30).tolist() == np.full((30, 30, 3), 200).tolist()
