"""Names of sources: made from files and hosts, numbered, never a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.capture import source_names
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (0, "camera0"),
        ("synthetic://64x48@5", "synthetic"),
        ("videos/street.mp4", "street"),
        ("a.tar.mp4", "a.tar"),
        ("a b/ü ñ.mp4", "ü_ñ"),
        ("photos/*.jpg", "photos"),
        ("*.jpg", "source"),
        ("....mp4", "source"),
        ("x" * 200 + ".mp4", "x" * 64),
        ("file:///data/my%20clip.mp4", "my_clip"),
        ("rtsp://cam.example:8554/live", "cam.example"),
        ("rtsp://user:s3cret@cam/live", "cam"),
        ("rtsp://user:p@s3cret@cam/live", "cam"),
        ("http://cam?token=s3cret", "cam"),
        ("rtsp://[fe80::1]:554/x", "fe80_1"),
        ("rtsp://[fe80", "source"),
        ("rtsp://", "source"),
    ],
)
def test_a_source_is_named_after_its_file_or_host(url: str | int, name: str) -> None:
    assert source_names([None], [url]) == [name]


def test_a_folder_gives_its_own_name_also_where_the_address_does_not_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    assert source_names([None, None], [".", f"{tmp_path}/photos/"]) == ["photos", "photos-2"]


def test_automatic_names_are_numbered_and_never_take_a_given_one() -> None:
    urls = ["a.mp4", "x/a.mp4", "y/a.mp4", "z.mp4"]
    assert source_names([None] * 3 + ["a-2"], urls) == ["a", "a-3", "a-4", "a-2"]


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="two sources are called 'door'"):
        source_names(["door", None, "door"], ["a", "b", "c"])
