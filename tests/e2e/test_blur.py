"""Nobody can be recognised in what leaves the real program: recordings, pictures, frames in Python."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.engine import EngineOptions
from engines.zoo import Zoo
from pipeline.api import Pipeline
from pipeline.arrays import FloatArray
from pipeline.capture.file import VideoFile
from pipeline.capture.images import read_image
from pipeline.capture.source import Source, SourceInfo
from pipeline.config.result_settings import BlurSettings
from pipeline.errors import StageError
from pipeline.faces import Faces
from pipeline.frame import Frame
from pipeline.gallery.pairs import similarity_matrix
from pipeline.infer.embedder import FaceEmbedder
from pipeline.infer.face_finder import FaceFinder, FinderOptions
from pipeline.infer.face_stages import FindFaces
from pipeline.picture import Picture
from pipeline.render.blur import Blur
from pipeline.runner import Runner
from pipeline.sinks.sink import Sink
from pipeline.stage import Stage
from tests.e2e.program import events, frameloom

FRAMES = 30
ONLY_FACES = ("--set", "detect.enabled=false", "--max-frames", str(FRAMES))


@pytest.fixture(scope="module")
def clip(shared: Path) -> Path:
    return shared / "data" / "videos" / "carphone.mp4"


class Witness:
    """Knows the clip's driver, and where the face is in each frame; looks for it in what a run has given."""

    def __init__(self, clip: Path) -> None:
        zoo = Zoo.load()
        self.finder = FaceFinder(zoo.spec("centerface"), EngineOptions(), FinderOptions(short_side=320))
        self.embedder = FaceEmbedder(zoo.spec("dlib-resnet"))
        assert self.embedder.encoder.verify_threshold is not None
        self.threshold = self.embedder.encoder.verify_threshold
        self.pictures = pictures_of(clip)[:FRAMES]
        self.faces = [self.finder(picture)[:1] for picture in self.pictures]
        self.encodings = [self._encode(*each) for each in zip(self.pictures, self.faces, strict=True)]

    def _encode(self, picture: Picture, faces: Faces) -> FloatArray:
        return self.embedder(self.embedder.chips(picture, faces.landmarks))

    def recognises(self, index: int, picture: Picture) -> bool:
        """Whether the driver is recognised: where the face was, or where the finder finds one now."""
        found = self.finder(picture)
        landmarks = np.concatenate([self.faces[index].landmarks, found.landmarks])
        now = self.embedder(self.embedder.chips(picture, landmarks))
        return bool((similarity_matrix(now, self.encodings[index]) >= self.threshold).any())

    def close(self) -> None:
        self.finder.close()
        self.embedder.close()


@pytest.fixture(scope="module")
def witness(clip: Path, face_models: dict[str, str]) -> Iterator[Witness]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
        made = Witness(clip)
        yield made
    made.close()


@pytest.fixture(autouse=True)
def models_at_hand(face_models: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
    monkeypatch.chdir(tmp_path)


def pictures_of(clip: Path) -> list[Picture]:
    source = VideoFile("clip", clip)
    source.open()
    try:
        return [item.picture for item in source.frames() if isinstance(item, Frame)]
    finally:
        source.close()


def config(clip: Path, **more: Any) -> dict[str, Any]:
    return {"sources": [str(clip)], "detect.enabled": False, "max_frames": FRAMES, **more}


@pytest.mark.parametrize("how", ["blur", "pixelate", "fill"])
def test_nobody_is_recognised_in_a_recording_and_in_pictures(
    tmp_path: Path, clip: Path, face_models: dict[str, str], witness: Witness, how: str
) -> None:
    options = ("--source", clip, "--record", "out.mp4", "--events", "e.jsonl", "--set", "sinks.frames=pictures")
    hidden = ("--set", "blur.enabled=true", "--set", f"blur.how={how}", "--set", "render.enabled=false")
    done = frameloom("run", *options, *hidden, *ONLY_FACES, cwd=tmp_path, env=face_models)
    assert (done.code, done.error) == (0, "")
    recorded = pictures_of(tmp_path / "out.mp4")
    written = [
        Picture(bgr=pixels)
        for path in sorted(tmp_path.glob("pictures/**/*.jpg"))
        if (pixels := read_image(path)) is not None
    ]
    assert len(recorded) == len(written) == FRAMES
    for pictures in (recorded, written):
        assert [index for index, picture in enumerate(pictures) if witness.recognises(index, picture)] == []
    found = [line["faces"] for line in events(tmp_path / "e.jsonl") if line["type"] == "frame"]
    assert all(len(faces) == 1 and len(faces[0]["landmarks"]) == 5 for faces in found)
    assert "blur: faces hidden; the whole picture in 4 of 30 frames" in done.out


def test_without_hiding_the_witness_would_have_recognised_the_driver(
    tmp_path: Path, clip: Path, face_models: dict[str, str], witness: Witness
) -> None:
    done = frameloom("run", "--source", clip, "--record", "out.mp4", *ONLY_FACES, cwd=tmp_path, env=face_models)
    assert done.code == 0
    recorded = pictures_of(tmp_path / "out.mp4")
    assert sum(witness.recognises(index, picture) for index, picture in enumerate(recorded)) > 0.9 * FRAMES


class Spy(Stage):
    """A stage of the user's: sees the pictures as they were captured."""

    name = "spy"

    def __init__(self) -> None:
        self.seen: dict[int, Picture] = {}

    def process(self, frame: Frame) -> None:
        self.seen[frame.index] = frame.picture
        assert frame.hidden is None


def test_a_stage_of_ones_own_sees_the_original_and_the_loop_does_not(clip: Path, witness: Witness) -> None:
    spy = Spy()
    with Pipeline(config(clip, **{"blur.enabled": True}), stages=[spy]) as frames:
        for frame in frames:
            assert frame.picture is not spy.seen[frame.index]
            for picture in (frame.picture, frame.output):
                assert not witness.recognises(frame.index, picture)
            assert frame.planes is not None
    assert all(witness.recognises(index, picture) for index, picture in spy.seen.items())


def test_an_error_in_the_finder_ends_the_run_and_no_picture_leaves_unhidden(
    clip: Path, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, calls = FaceFinder.collect, [0]

    def broken(finder: FaceFinder, search: Any) -> Faces:
        calls[0] += 1
        if calls[0] > 20:
            raise RuntimeError("the finder is broken")
        return right(finder, search)

    out: list[Frame] = []
    with Pipeline(config(clip, **{"blur.enabled": True})) as frames:
        monkeypatch.setattr(FaceFinder, "collect", broken)
        with pytest.raises(StageError, match="find_faces failed: RuntimeError: the finder is broken"):
            out.extend(frames)
    monkeypatch.undo()
    assert len(out) <= 20
    assert not any(witness.recognises(frame.index, frame.picture) for frame in out)


class Camera(Source):
    """The clip as a camera sends it, each frame at its time."""

    def __init__(self, pictures: list[Picture]) -> None:
        self.info = SourceInfo("cam", "cam", True, pictures[0].width, pictures[0].height, 60.0, None)
        self._pictures = pictures

    def frames(self) -> Iterator[Frame]:
        for index, picture in enumerate(self._pictures):
            time.sleep(1 / 60)
            yield Frame("cam", index, index / 60, time.monotonic(), picture)


class Kept(Sink):
    name = "kept"

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def consume(self, frame: Frame) -> None:
        self.frames.append(frame)


def test_frames_that_bypass_a_busy_finder_are_hidden_too(witness: Witness) -> None:
    spec = Zoo.load().spec("centerface")
    finder = FindFaces(
        spec, EngineOptions(requests=1, threads=1), FinderOptions(short_side=512), sizes=[(144, 176)], bypass=True
    )
    kept = Kept()
    runner = Runner([Camera(witness.pictures)], [finder, Blur(BlurSettings(enabled=True))], [kept])
    runner.start()
    runner.wait()
    assert runner.error is None
    passed = [frame for frame in kept.frames if frame.faces is not None and frame.faces.predicted]
    assert len(passed) > 5
    assert not any(witness.recognises(frame.index, frame.picture) for frame in kept.frames)


@pytest.mark.parametrize(
    ("enrolled", "spare", "shown"), [("driver", "known", True), ("driver", "ann", False), ("john", "known", False)]
)
def test_only_who_is_known_is_spared(
    tmp_path: Path,
    clip: Path,
    shared: Path,
    face_models: dict[str, str],
    witness: Witness,
    enrolled: str,
    spare: str,
    shown: bool,
) -> None:
    cv2.imwrite("driver.png", witness.pictures[25].bgr)
    johns = sorted((shared / "data" / "faces" / "johns").glob("*/*.jpg"))
    portrait = Path("driver.png") if enrolled == "driver" else johns[0]
    assert frameloom("gallery", "add", enrolled, portrait, cwd=tmp_path, env=face_models).code == 0
    done = frameloom(
        "run", "--source", clip, "--gallery", "gallery.db", "--record", "out.mp4", "--set", "blur.enabled=true",
        "--set", f"blur.except={spare}", "--set", "render.enabled=false", *ONLY_FACES, cwd=tmp_path, env=face_models,
    )  # fmt: skip
    assert done.code == 0, done.error
    assert ("holds nobody called 'ann'" in done.error) == (spare == "ann")
    seen = [witness.recognises(index, picture) for index, picture in enumerate(pictures_of(tmp_path / "out.mp4"))]
    assert sum(seen[10:]) > 0.9 * (FRAMES - 10) if shown else not any(seen)
    assert not any(seen[:4])  # nobody has looked often enough yet


@pytest.mark.parametrize("pictures", ["annotated", "original"])
def test_nobody_is_recognised_in_clips_and_their_pictures(
    tmp_path: Path, clip: Path, shared: Path, face_models: dict[str, str], witness: Witness, pictures: str
) -> None:
    john = sorted((shared / "data" / "faces" / "johns").glob("*/*.jpg"))[0]
    assert frameloom("gallery", "add", "john", john, cwd=tmp_path, env=face_models).code == 0
    done = frameloom(
        "run", "--source", clip, "--gallery", "gallery.db", "--set", "blur.enabled=true",
        "--set", "clips.on=[person.unknown]",
        "--set", f"clips.pictures={pictures}", "--set", "faces.unknown_after_s=0.2", *ONLY_FACES,
        cwd=tmp_path, env=face_models,
    )  # fmt: skip
    assert done.code == 0, done.error
    (video,), thumbnails = tmp_path.glob("clips/**/*.mp4"), list(tmp_path.glob("clips/**/*.jpg"))
    shown = pictures_of(video)
    assert len(shown) > FRAMES / 2
    assert [index for index, picture in enumerate(shown) if witness.recognises(index, picture)] == []
    for path in thumbnails:
        pixels = read_image(path)
        assert pixels is not None
        picture = Picture(bgr=np.ascontiguousarray(cv2.resize(pixels, (176, 144))))
        assert not any(witness.recognises(index, picture) for index in range(FRAMES))
    assert thumbnails


def test_what_would_hide_less_than_it_says_is_refused(tmp_path: Path, clip: Path, face_models: dict[str, str]) -> None:
    options = ("--source", clip, "--record", "out.mp4", "--set", "blur.enabled=true", "--set", "faces.enabled=false")
    done = frameloom("run", *options, cwd=tmp_path, env=face_models)
    assert done.code == 2
    assert done.complaint == "blur.what: faces needs faces to be looked for, which is off (faces.enabled)"
    assert not (tmp_path / "out.mp4").exists()
