"""Faces through the real program: a man enrolled from one frame of a clip, named in all of it, and forgotten again."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.frame import Frame
from tests.e2e.program import FRAMELOOM, Done, environment, events, frameloom

ONLY_FACES = ("--set", "detect.enabled=false")


@pytest.fixture(scope="module")
def clip(shared: Path) -> Path:
    return shared / "data" / "videos" / "carphone.mp4"


@pytest.fixture
def desk(tmp_path: Path, clip: Path) -> Path:
    """A folder with a portrait of the clip's driver."""
    cv2.imwrite(str(tmp_path / "driver.png"), frames_of(clip)[30].image)
    return tmp_path


def frames_of(clip: Path) -> list[Frame]:
    from pipeline.capture.file import VideoFile

    source = VideoFile("clip", clip)
    source.open()
    try:
        return [item for item in source.frames() if isinstance(item, Frame)]
    finally:
        source.close()


def faces_in(log: Path) -> list[list[dict[str, Any]]]:
    return [line["faces"] for line in events(log) if line["type"] == "frame"]


def names_in(log: Path) -> Counter[str | None]:
    return Counter(face["name"] for faces in faces_in(log) for face in faces)


def run_clip(desk: Path, clip: Path, env: dict[str, str]) -> Done:
    options = ("--gallery", "gallery.db", "--events", "e.jsonl", *ONLY_FACES)
    return frameloom("run", "--source", clip, *options, cwd=desk, env=env)


def test_a_man_enrolled_from_one_frame_is_named_in_the_clip_and_nobody_else_is(
    desk: Path, clip: Path, face_models: dict[str, str]
) -> None:
    added = frameloom("gallery", "add", "driver", "driver.png", cwd=desk, env=face_models)
    assert (added.code, added.error) == (0, "")
    assert "added    driver: 1 picture\n" in added.out
    done = frameloom(
        "run",
        "--source",
        clip,
        "--gallery",
        "gallery.db",
        "--events",
        "e.jsonl",
        *ONLY_FACES,
        cwd=desk,
        env=face_models,
    )
    assert (done.code, done.error) == (0, "")
    faces = faces_in(desk / "e.jsonl")
    assert len(faces) == 120
    assert names_in(desk / "e.jsonl")["driver"] >= 0.95 * 120
    assert set(names_in(desk / "e.jsonl")) <= {"driver", None}
    (face,) = faces[60]
    assert set(face) == {"box", "score", "landmarks", "name", "similarity", "track", "quality"}
    assert len(face["landmarks"]) == 5
    assert face["track"] == 1
    assert 0.834 < face["similarity"] <= 1
    assert "1 person in gallery.db, threshold 0.834, the embedder's default" in done.out


def test_a_gallery_of_other_people_names_nobody(
    desk: Path, clip: Path, shared: Path, face_models: dict[str, str]
) -> None:
    johns = shared / "data" / "faces" / "johns"
    added = frameloom("gallery", "add", "--dir", johns, cwd=desk, env=face_models)
    assert added.code == 0
    people = json.loads(frameloom("gallery", "list", "--json", cwd=desk, env=face_models).out)["people"]
    assert len(people) == 5
    frameloom(
        "run",
        "--source",
        clip,
        "--gallery",
        "gallery.db",
        "--events",
        "e.jsonl",
        *ONLY_FACES,
        cwd=desk,
        env=face_models,
    )
    assert set(names_in(desk / "e.jsonl")) == {None}
    assert all(face["similarity"] is not None for faces in faces_in(desk / "e.jsonl") for face in faces)


def test_each_face_of_a_picture_is_judged_alone(
    desk: Path, clip: Path, shared: Path, face_models: dict[str, str]
) -> None:
    """Pictures have no tracks: one look decides, and the next picture knows nothing of it."""
    frameloom("gallery", "add", "driver", "driver.png", cwd=desk, env=face_models)
    pictures = desk / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "1.png"), frames_of(clip)[60].image)
    shutil.copy(shared / "data" / "images" / "zidane.jpg", pictures / "2.jpg")
    frameloom(
        "run", "--source", pictures, "--gallery", "gallery.db", "--events", "e.jsonl", *ONLY_FACES,
        cwd=desk, env=face_models,
    )  # fmt: skip
    first, second = faces_in(desk / "e.jsonl")
    assert [face["name"] for face in first] == ["driver"]
    assert [face["name"] for face in second] == [None, None]
    assert [face["track"] for face in first + second] == [None] * 3


def test_a_running_pipeline_sees_a_changed_gallery_within_two_seconds(
    desk: Path, clip: Path, shared: Path, face_models: dict[str, str]
) -> None:
    john = next((shared / "data" / "faces" / "johns").glob("*/*.jpg"))
    assert frameloom("gallery", "add", "john", john, cwd=desk, env=face_models).code == 0
    loop = desk / "loop.mp4"
    command = ["ffmpeg", "-loglevel", "error", "-stream_loop", "199", "-i", str(clip), "-c", "copy", str(loop)]
    subprocess.run(command, check=True)
    log = desk / "e.jsonl"
    options = ["--source", str(loop), "--gallery", "gallery.db", "--events", str(log), *ONLY_FACES]
    run = subprocess.Popen([FRAMELOOM, "run", *options], cwd=desk, env=environment() | face_models)
    try:
        wait_for(log, {None})
        frameloom("gallery", "add", "driver", "driver.png", cwd=desk, env=face_models)
        assert wait_for(log, {"driver"}) < 2
        frameloom("gallery", "remove", "driver", cwd=desk, env=face_models)
        assert wait_for(log, {None}) < 2
    finally:
        run.terminate()
        assert run.wait(20) == 0


def wait_for(log: Path, names: set[str | None]) -> float:
    """Wait until a frame has exactly these names; return how many seconds that took."""
    begun, end = time.monotonic(), 0
    while time.monotonic() < begun + 30:
        lines = log.read_bytes()[end:].split(b"\n")[-3:-1] if log.exists() else []
        if lines and {face["name"] for face in json.loads(lines[-1]).get("faces", ())} == names:
            return time.monotonic() - begun
        time.sleep(0.02)
    raise AssertionError(f"{names} never came")


def test_encodings_are_written_only_on_request_and_unknown_people_can_be_enrolled_from_them(
    desk: Path, clip: Path, shared: Path, face_models: dict[str, str]
) -> None:
    john = next((shared / "data" / "faces" / "johns").glob("*/*.jpg"))
    frameloom("gallery", "add", "john", john, cwd=desk, env=face_models)
    for log, encodings in (("without.jsonl", "false"), ("with.jsonl", "true")):
        frameloom(
            "run", "--source", clip, "--gallery", "gallery.db", "--set", f"sinks.events.path={log}",
            "--set", f"sinks.events.encodings={encodings}", *ONLY_FACES, cwd=desk, env=face_models,
        )  # fmt: skip
    assert "encoding" not in (desk / "without.jsonl").read_text()
    assert len(faces_in(desk / "with.jsonl")[10][0]["encoding"]) == 128
    refused = frameloom("gallery", "unknowns", "without.jsonl", cwd=desk, env=face_models)
    assert refused.complaint.endswith("run with --set sinks.events.encodings=true")
    listed = frameloom("gallery", "unknowns", "with.jsonl", "--enrol", "1=driver", cwd=desk, env=face_models)
    assert listed.out.startswith("person 1: 3 faces of 1 track; the best is in carphone, frame ")
    assert "added    driver: 3 faces of person 1" in listed.out
    frameloom(
        "run",
        "--source",
        clip,
        "--gallery",
        "gallery.db",
        "--events",
        "e.jsonl",
        *ONLY_FACES,
        cwd=desk,
        env=face_models,
    )
    assert names_in(desk / "e.jsonl")["driver"] >= 0.95 * 120


def test_looking_only_inside_persons_needs_detection(desk: Path, clip: Path, face_models: dict[str, str]) -> None:
    done = frameloom(
        "run", "--source", clip, "--set", "faces.enabled=true", "--set", "faces.inside_persons=true", *ONLY_FACES,
        cwd=desk, env=face_models,
    )  # fmt: skip
    assert done.code == 2
    assert "faces.inside_persons: persons are found by detection, which is off" in done.complaint


def test_inside_persons_finds_the_faces_that_are_in_persons(
    desk: Path, shared: Path, face_models: dict[str, str]
) -> None:
    done = frameloom(
        "run", "--source", shared / "data" / "images" / "zidane.jpg", "--set", "faces.enabled=true",
        "--set", "faces.inside_persons=true", "--events", "e.jsonl", cwd=desk, env=face_models,
    )  # fmt: skip
    assert done.code == 0, done.error
    (faces,) = faces_in(desk / "e.jsonl")
    assert len(faces) == 2
    assert [face["name"] for face in faces] == [None, None]


def test_liveness_and_points_are_stages_of_their_own(
    desk: Path, clip: Path, shared: Path, face_models: dict[str, str]
) -> None:
    frameloom("gallery", "add", "driver", "driver.png", cwd=desk, env=face_models)
    points = shared / "models" / "face" / "pfld_68.onnx"
    done = frameloom(
        "run", "--source", clip, "--gallery", "gallery.db", "--events", "e.jsonl", "--set", "faces.liveness=true",
        "--set", f"faces.points={points}", "--max-frames", "20", *ONLY_FACES, cwd=desk, env=face_models,
    )  # fmt: skip
    assert done.code == 0, done.error
    (face,) = faces_in(desk / "e.jsonl")[10]
    assert 0 <= face["liveness"] <= 1
    left, top, right, bottom = face["box"]
    points_ = np.array(face["points"])
    assert points_.shape == (68, 2)
    middle = points_.mean(axis=0)
    assert left < middle[0] < right
    assert top < middle[1] < bottom


# --- what a user gives by mistake -----------------------------------------------------------------------------------


def add(desk: Path, picture: Path | str, env: dict[str, str], *options: str) -> Done:
    return frameloom("gallery", "add", "ann", picture, *options, cwd=desk, env=env)


def test_pictures_that_would_do_harm_are_refused_with_a_reason(
    desk: Path, shared: Path, face_models: dict[str, str]
) -> None:
    faces = shared / "data" / "faces"
    portrait = np.asarray(cv2.imread(str(desk / "driver.png")))
    (desk / "text.jpg").write_text("no picture")
    cv2.imwrite(str(desk / "blurred.png"), cv2.GaussianBlur(cv2.resize(portrait, None, fx=3, fy=3), (0, 0), 8))
    cv2.imwrite(str(desk / "tiny.png"), cv2.resize(portrait, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA))
    shutil.copy(desk / "driver.png", desk / "again.png")
    assert add(desk, "driver.png", face_models).code == 0
    people = sqlite3.connect(desk / "gallery.db").execute("SELECT count(*) FROM encodings").fetchone()
    pictures: list[str | Path] = [
        "text.jpg", "gone.jpg", "blurred.png", "tiny.png", "again.png",
        faces / "groups" / "2008_002470.jpg", faces / "groups" / "dogs.jpg",
    ]  # fmt: skip
    done = frameloom("gallery", "add", "bob", *pictures, cwd=desk, env=face_models)
    assert done.code == 1
    reasons = dict(line.removeprefix("refused  ").rsplit(": ", 1) for line in done.out.splitlines()[:-1])
    assert reasons["text.jpg"] == "cannot be read as a picture"
    assert reasons["gone.jpg"] == "does not exist"
    assert reasons["blurred.png"].startswith(("blurred", "no face"))
    assert reasons["tiny.png"].startswith(("small", "no face"))
    assert reasons["again.png"] == "already there, as ann"
    assert reasons[str(pictures[5])].endswith("faces")
    assert reasons[str(pictures[6])] == "no face"
    assert done.out.splitlines()[-1] == "0 pictures of 0 people added to gallery.db, 7 refused"
    assert sqlite3.connect(desk / "gallery.db").execute("SELECT count(*) FROM encodings").fetchone() == people


def test_the_same_face_under_a_second_name_is_refused_unless_told_otherwise(
    desk: Path, clip: Path, face_models: dict[str, str]
) -> None:
    cv2.imwrite(str(desk / "later.png"), frames_of(clip)[45].image)
    add(desk, "driver.png", face_models)
    done = frameloom("gallery", "add", "bob", "later.png", cwd=desk, env=face_models)
    assert done.code == 1
    assert done.out.startswith("refused  later.png: looks like ann (0.9")
    assert frameloom("gallery", "add", "bob", "later.png", "--allow-alike", cwd=desk, env=face_models).code == 0


def test_a_picture_of_somebody_else_among_a_persons_is_refused(
    desk: Path, clip: Path, shared: Path, face_models: dict[str, str]
) -> None:
    for number in (0, 45, 90):
        cv2.imwrite(str(desk / f"{number}.png"), frames_of(clip)[number].image)
    john = next((shared / "data" / "faces" / "johns").glob("*/*.jpg"))
    done = frameloom("gallery", "add", "ann", "0.png", "45.png", john, "90.png", cwd=desk, env=face_models)
    assert done.code == 0
    assert "unlike the other pictures of ann" in done.out
    assert "added    ann: 3 pictures" in done.out


@pytest.mark.parametrize("kind", ["grey", "16-bit", "turned by EXIF", "20 megapixels"])
def test_unusual_pictures_are_read(desk: Path, kind: str, face_models: dict[str, str]) -> None:
    portrait = np.asarray(cv2.imread(str(desk / "driver.png")))
    picture = desk / "picture.png"
    if kind == "grey":
        cv2.imwrite(str(picture), cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY))
    elif kind == "16-bit":
        cv2.imwrite(str(picture), portrait.astype(np.uint16) * 257)
    elif kind == "20 megapixels":
        cv2.imwrite(str(picture), cv2.resize(portrait, (5184, 4240), interpolation=cv2.INTER_CUBIC))
    else:
        picture = desk / "picture.jpg"
        _, data = cv2.imencode(".jpg", np.rot90(portrait, 1))
        picture.write_bytes(with_orientation(data.tobytes(), 6))
    done = add(desk, picture.name, face_models)
    assert "added    ann: 1 picture\n" in done.out, done.out
    cv2.imwrite(str(desk / "plain.png"), portrait)
    same = frameloom("gallery", "verify", picture.name, "plain.png", cwd=desk, env=face_models)
    assert same.out.splitlines()[-1] == "the same person"


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Put an EXIF segment that only says how to turn the picture behind a JPEG's first marker (EXIF 2.3, 4.5.4)."""
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([orientation, 0, 0, 0])
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00" + entry + b"\x00\x00\x00\x00"
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


def test_a_gallery_of_another_encoder_is_refused_before_anything_runs(
    desk: Path, clip: Path, face_models: dict[str, str]
) -> None:
    add(desk, "driver.png", face_models)
    done = frameloom(
        "run", "--source", clip, "--gallery", "gallery.db", "--embedder", "mobilefacenet", "--record", "o.mp4",
        cwd=desk, env=face_models,
    )  # fmt: skip
    assert done.code == 2
    assert "gallery.db holds encodings of dlib-resnet" in done.complaint
    assert "cannot be compared with those of mobilefacenet" in done.complaint
    assert not (desk / "o.mp4").exists()


def test_a_missing_gallery_and_a_file_that_is_none_are_said(
    desk: Path, clip: Path, face_models: dict[str, str]
) -> None:
    (desk / "text.db").write_text("no gallery" * 100)
    for name, reason in (("gone.db", "there is no gallery gone.db"), ("text.db", "it is no gallery")):
        done = frameloom("run", "--source", clip, "--gallery", name, cwd=desk, env=face_models)
        assert done.code == 2
        assert reason in done.complaint


def test_a_locked_gallery_is_said_and_left_as_it_was(desk: Path, face_models: dict[str, str]) -> None:
    add(desk, "driver.png", face_models)
    holder = sqlite3.connect(desk / "gallery.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    done = frameloom("gallery", "rename", "ann", "eve", cwd=desk, env=face_models)
    holder.execute("ROLLBACK")
    holder.close()
    assert done.code == 1
    assert "another program is writing to it" in done.complaint
    assert json.loads(frameloom("gallery", "list", "--json", cwd=desk).out)["people"][0]["name"] == "ann"


def test_a_gallery_goes_to_another_machine_and_back(desk: Path, face_models: dict[str, str]) -> None:
    add(desk, "driver.png", face_models)
    assert frameloom("gallery", "export", "people.npz", cwd=desk).out == "wrote 1 encoding to people.npz\n"
    assert frameloom("gallery", "import", "people.npz", "--gallery", "other.db", cwd=desk).code == 0
    again = frameloom("gallery", "import", "people.npz", "--gallery", "other.db", cwd=desk)
    assert again.out == "added 0 encodings to other.db, 1 were there already\n"
    who = frameloom("gallery", "identify", "driver.png", "--gallery", "other.db", cwd=desk, env=face_models)
    assert "   1.000  ann\n" in who.out


def test_two_people_are_two_people(desk: Path, shared: Path, face_models: dict[str, str]) -> None:
    john = next((shared / "data" / "faces" / "johns").glob("*/*.jpg"))
    done = frameloom("gallery", "verify", "driver.png", john, cwd=desk, env=face_models)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "two people"
    assert "threshold 0.820, the embedder's default" in done.out


def test_a_gallery_calibrates_itself_says_what_it_supports_and_uses_it(
    desk: Path, shared: Path, face_models: dict[str, str]
) -> None:
    frameloom("gallery", "add", "--dir", shared / "data" / "faces" / "johns", cwd=desk, env=face_models)
    done = frameloom("gallery", "calibrate", "--plot", "roc.png", cwd=desk, env=face_models)
    assert done.code == 0, done.error
    assert "pairs of one person" in done.out
    assert "least alike pictures of one person:" in done.out
    plot = cv2.imread(str(desk / "roc.png"))
    assert plot is not None
    assert plot.shape[1] > 800
    assert "calibrated 20" in frameloom("gallery", "list", cwd=desk).out
