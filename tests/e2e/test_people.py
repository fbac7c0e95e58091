"""A name stays with a person whose face is not seen any more, through the real program."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.e2e.program import events, frameloom
from tests.e2e.test_faces import frames_of

TURNS_AWAY_AT = 60
BLUR = 25
"""Pixels: no finder sees a face in it, and a body remains."""


@pytest.fixture
def desk(tmp_path: Path, shared: Path) -> Path:
    """A folder with a clip of a woman whose face is gone from some frame on, and a portrait from before."""
    frames = frames_of(shared / "data" / "videos" / "retalking_1.mp4")
    cv2.imwrite(str(tmp_path / "portrait.png"), frames[10].image)
    height, width = frames[0].height, frames[0].width
    head = slice(height // 10, height * 3 // 4), slice(width // 5, width * 4 // 5)
    film = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 22, (width, height))
    for frame in frames:
        picture = frame.image.copy()
        if frame.index >= TURNS_AWAY_AT:
            picture[head] = cv2.GaussianBlur(picture[head], (0, 0), BLUR)
        film.write(picture)
    film.release()
    return tmp_path


def test_a_name_stays_with_a_person_who_turns_away(desk: Path, face_models: dict[str, str]) -> None:
    added = frameloom("gallery", "add", "ann", "portrait.png", cwd=desk, env=face_models)
    assert (added.code, added.error) == (0, "")
    options = ("--gallery", "gallery.db", "--events", "e.jsonl", "--set", "faces.left_after_s=1")
    done = frameloom("run", "--source", "clip.mp4", *options, cwd=desk, env=face_models)
    assert (done.code, done.error) == (0, "")
    lines = events(desk / "e.jsonl")
    frames = [line for line in lines if line["type"] == "frame"]
    away = frames[TURNS_AWAY_AT + 5 :]
    assert len(away) > 60
    assert not any(frame["faces"] for frame in away)
    for frame in away:
        assert [each["name"] for each in frame["detections"] if each["class"] == "person"] == ["ann"]
    told = [(line["event"], line["name"]) for line in lines if line["type"] == "event"]
    assert told == [("person.appeared", "ann")], "she has not left: her body is there"
