"""The stages of faces, alone and in a real run: found, followed, encoded, named; each source for itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.spec import ModelSpec
from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.gallery.known import KnownPeople
from pipeline.gallery.store import GalleryFile
from pipeline.infer.embedder import FaceEmbedder
from pipeline.infer.face_finder import recognise
from pipeline.infer.face_stages import FindFaces, RecogniseFaces, RecogniseOptions
from pipeline.runner import Runner
from pipeline.sinks.sink import Sink
from tests.pipeline.face_models import square_finder
from tests.pipeline.faces.patterns import (
    CPU,
    OPTIONS,
    SIDE,
    SIZE,
    Place,
    Scenes,
    encoder,
    encodings,
    enrol,
    frame,
    scene,
)
from tests.pipeline.fakes import threads_left

EVERYBODY = ("ann", "bob", "eve")
ANN: Place = ("ann", 100, 100)
BOB: Place = ("bob", 404, 204)


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return recognise(square_finder(tmp_path_factory.mktemp("finder")))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def gallery(tmp_path: Path, spec: ModelSpec) -> Path:
    """Ann, Bob and Eve are known; Zoe is not."""
    embedder = FaceEmbedder(spec, CPU)
    try:
        return enrol(tmp_path / "g.db", embedder, *EVERYBODY)
    finally:
        embedder.close()


Make = Callable[..., Any]


@pytest.fixture
def find(finder: ModelSpec) -> Iterator[Make]:
    opened: list[FindFaces] = []

    def make(**options: Any) -> FindFaces:
        stage = FindFaces(finder, CPU, OPTIONS, sizes=[SIZE], **options)
        stage.open()
        opened.append(stage)
        return stage

    yield make
    for stage in opened:
        stage.close()


@pytest.fixture
def recognise_(spec: ModelSpec) -> Iterator[Make]:
    opened: list[RecogniseFaces] = []

    def make(gallery: Path | None = None, **options: Any) -> RecogniseFaces:
        stage = RecogniseFaces(spec, CPU, RecogniseOptions(**options), people_of(gallery))
        stage.open()
        opened.append(stage)
        return stage

    yield make
    for stage in opened:
        stage.close()


def people_of(gallery: Path | None) -> Callable[[FaceEmbedder], KnownPeople] | None:
    return None if gallery is None else lambda embedder: KnownPeople(gallery, embedder)


def through(stage: FindFaces | RecogniseFaces, one: Frame) -> Frame:
    """Do with a frame what a stage's threads do."""
    if stage.wants(one):
        stage.collect(one, stage.submit(one))  # type: ignore[arg-type]
    else:
        stage.skip(one)
    return one


def faces_of(one: Frame) -> Faces:
    assert one.faces is not None
    return one.faces


def tracks(one: Frame) -> list[int]:
    """Return the track ids from left to right."""
    faces = faces_of(one)
    assert faces.track_ids is not None
    return [int(faces.track_ids[row]) for row in np.argsort(faces.boxes[:, 0])]


def names(one: Frame) -> list[str | None]:
    """Return the names from left to right."""
    faces = faces_of(one)
    assert faces.names is not None
    return [faces.names[row] for row in np.argsort(faces.boxes[:, 0])]


# ---- finding


def test_faces_are_found_where_they_are_and_followed(find: Make) -> None:
    stage = find()
    for index in range(5):
        one = through(stage, frame(scene(("ann", 100 + 8 * index, 100), BOB), index))
        assert tracks(one) == [1, 2]
        assert not faces_of(one).predicted
        left = faces_of(one)[faces_of(one).boxes[:, 0].argmin()]
        expected = np.array([100 + 8 * index, 100, 164 + 8 * index, 164])
        assert np.abs(left.boxes[0] - expected).max() <= 1


def test_each_source_has_tracks_of_its_own(find: Make) -> None:
    stage = find()
    assert tracks(through(stage, frame(scene(ANN, BOB), 0, "a"))) == [1, 2]
    assert tracks(through(stage, frame(scene(BOB), 0, "b"))) == [1]
    assert tracks(through(stage, frame(scene(ANN, BOB, ("eve", 604, 44)), 1, "a"))) == [1, 2, 3]
    assert tracks(through(stage, frame(scene(BOB), 1, "b"))) == [1]


def test_images_have_nothing_to_do_with_each_other_and_no_tracks(find: Make) -> None:
    stage = find()
    for index in range(2):
        assert faces_of(through(stage, frame(scene(ANN), index, file=Path(f"{index}.png")))).track_ids is None


def test_a_source_that_has_ended_is_forgotten_and_no_other(find: Make) -> None:
    stage = find()
    for source in ("a", "b"):
        through(stage, frame(scene(ANN), 0, source))
    through(stage, frame(scene(ANN, BOB), 1, "a"))
    stage.end("a")
    assert tracks(through(stage, frame(scene(BOB), 2, "a"))) == [1]
    assert tracks(through(stage, frame(scene(ANN, BOB), 1, "b"))) == [1, 2]
    fresh = frame(scene(ANN), 0, "c")
    stage.skip(fresh)
    assert len(faces_of(fresh)) == 0


def test_a_frame_that_passes_takes_over_the_faces_of_the_last_and_says_so(find: Make) -> None:
    stage = find()
    first = through(stage, frame(scene(ANN, BOB), 0))
    passed = frame(scene(), 1)
    stage.skip(passed)
    assert faces_of(passed).predicted
    assert tracks(passed) == [1, 2]
    assert (faces_of(passed).boxes == faces_of(first).boxes).all()
    assert faces_of(passed) is not faces_of(first)
    other = frame(scene(), 0, "other")
    stage.skip(other)
    assert len(faces_of(other)) == 0
    assert faces_of(other).predicted  # nobody has looked


def detected(one: Frame, *boxes: tuple[float, float, float, float], label: int = 0) -> Frame:
    count = len(boxes)
    one.detections = Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(count, 0.9), np.full(count, label))
    one.labels = ("person", "car")
    return one


def test_only_inside_persons_are_faces_looked_for(find: Make) -> None:
    stage = find(inside_persons=True)
    one = through(stage, detected(frame(scene(ANN, BOB)), (60, 60, 260, 384)))
    assert len(faces_of(one)) == 1
    assert faces_of(one).boxes[0, 0] < 200
    both = through(stage, detected(frame(scene(ANN, BOB), 1), (60, 60, 260, 384), (380, 150, 500, 384)))
    assert len(faces_of(both)) == 2


@pytest.mark.parametrize("label", [None, 1])
def test_where_there_is_no_person_there_is_no_face_and_the_last_ones_are_not_taken_over(
    find: Make, label: int | None
) -> None:
    stage = find(inside_persons=True)
    through(stage, detected(frame(scene(ANN)), (60, 60, 260, 384)))
    boxes = () if label is None else ((60, 60, 260, 384),)
    one = through(stage, detected(frame(scene(ANN), 1), *boxes, label=label or 0))
    assert len(faces_of(one)) == 0
    assert not faces_of(one).predicted


# ---- recognising


def seen(find_stage: FindFaces, stage: RecogniseFaces, *frames: Frame) -> list[Frame]:
    return [through(stage, through(find_stage, one)) for one in frames]


def test_the_known_are_named_and_the_unknown_are_not(find: Make, recognise_: Make, gallery: Path) -> None:
    picture = scene(("eve", 44, 44), ("zoe", 244, 204), ("ann", 484, 100))
    frames = seen(find(), recognise_(gallery), *(frame(picture, index) for index in range(3)))
    assert [names(one) for one in frames] == [["eve", None, "ann"]] * 3
    faces = faces_of(frames[-1])
    assert faces.similarities is not None
    assert faces.names is not None
    for name, similarity in zip(faces.names, faces.similarities, strict=True):
        assert (similarity > 0.9) == (name is not None)
    assert faces.qualities is not None
    assert (faces.qualities > 0.15).all()


def test_encodings_are_the_encoders_own_and_without_a_gallery_nobody_is_named(find: Make, recognise_: Make) -> None:
    stage = recognise_()
    (one,) = seen(find(), stage, frame(scene(ANN)))
    faces = faces_of(one)
    assert faces.encodings is not None
    picture = scene(ANN)
    expected = stage.embedder(stage.embedder.chips(picture, faces.landmarks))
    np.testing.assert_allclose(faces.encodings, expected, atol=1e-5)
    assert (faces.names, faces.similarities) == (None, None)


def test_a_frame_without_faces_passes(find: Make, recognise_: Make, gallery: Path) -> None:
    (one,) = seen(find(), recognise_(gallery), frame(scene()))
    faces = faces_of(one)
    assert (len(faces), faces.names) == (0, ())
    assert faces.encodings is not None
    assert faces.encodings.shape == (0, 192)


@pytest.mark.parametrize("as_images", [False, True])
def test_faces_below_the_floor_are_shown_and_neither_encoded_nor_named(
    find: Make, recognise_: Make, gallery: Path, as_images: bool
) -> None:
    picture = scene(ANN, BOB)
    file = Path("x.png") if as_images else None
    one = through(find(), frame(picture, file=file))
    worse = int(faces_of(one).boxes[:, 0].argmax())
    faces_of(one).scores[worse] = 0.31
    through(recognise_(gallery), one)
    faces = faces_of(one)
    assert names(one) == ["ann", None]
    assert faces.encodings is not None
    assert faces.qualities is not None
    assert faces.similarities is not None
    assert np.isnan(faces.encodings[worse]).all()
    assert np.isfinite(np.delete(faces.encodings, worse, axis=0)).all()
    assert faces.qualities[worse] == pytest.approx(0.025, abs=1e-3)
    assert np.isnan(faces.similarities[worse])
    assert np.isfinite(np.delete(faces.similarities, worse)).all()


def test_a_higher_floor_leaves_nobody(find: Make, recognise_: Make, gallery: Path) -> None:
    (one,) = seen(find(), recognise_(gallery, min_quality=0.95), frame(scene(ANN, BOB)))
    faces = faces_of(one)
    assert len(faces) == 2
    assert faces.encodings is not None
    assert np.isnan(faces.encodings).all()
    assert names(one) == [None, None]


def test_photos_and_screens_are_not_matched_and_what_was_not_looked_at_is(
    find: Make, recognise_: Make, gallery: Path
) -> None:
    one = through(find(), frame(scene(("ann", 44, 44), ("bob", 244, 204), ("eve", 484, 100))))
    liveness = np.array([0.49, 0.5, np.nan], np.float32)
    order = faces_of(one).boxes[:, 0].argsort()
    faces_of(one).liveness = np.empty(3, np.float32)
    faces_of(one).liveness[order] = liveness  # type: ignore[index]
    through(recognise_(gallery, min_liveness=0.5), one)
    assert names(one) == [None, "bob", "eve"]
    assert faces_of(one).liveness is not None


def test_every_nth_frame_is_matched_and_the_others_take_over_what_is_known_of_their_tracks(
    find: Make, recognise_: Make, gallery: Path
) -> None:
    frames = seen(find(), recognise_(gallery, match_every=3), *(frame(scene(ANN, BOB), index) for index in range(7)))
    assert [names(one) for one in frames] == [["ann", "bob"]] * 7
    assert [faces_of(one).encodings is not None for one in frames] == [True, False, False] * 2 + [True]
    similarities = [faces_of(one).similarities for one in frames[:3]]
    assert similarities[0] is not None
    assert all(np.array_equal(each, similarities[0]) for each in similarities if each is not None)


def test_somebody_who_comes_between_two_matched_frames_has_no_name_yet(
    find: Make, recognise_: Make, gallery: Path
) -> None:
    pictures = [scene(ANN), scene(ANN, BOB), scene(ANN, BOB)]
    frames = seen(find(), recognise_(gallery, match_every=2), *(frame(each, i) for i, each in enumerate(pictures)))
    assert [names(one) for one in frames] == [["ann"], ["ann", None], ["ann", "bob"]]
    assert np.isnan(faces_of(frames[1]).similarities).tolist().count(True) == 1  # type: ignore[arg-type]


def test_the_nth_frame_is_counted_for_each_source(find: Make, recognise_: Make, gallery: Path) -> None:
    find_stage, stage = find(), recognise_(gallery, match_every=2)
    encoded = {
        (source, index): faces_of(*seen(find_stage, stage, frame(scene(ANN), index, source))).encodings is not None
        for index in range(3)
        for source in ("a", "b", "c")
    }
    assert all(encoded[source, index] == (index != 1) for source, index in encoded)


def test_faces_that_were_not_found_in_a_frame_are_not_encoded_from_it(
    find: Make, recognise_: Make, gallery: Path
) -> None:
    """Where the finder was bypassed, the boxes are old: what lies there now may be somebody else."""
    find_stage, stage = find(), recognise_(gallery)
    seen(find_stage, stage, frame(scene(ANN), 0))
    passed = frame(scene(("bob", ANN[1], ANN[2])), 1)
    find_stage.skip(passed)
    through(stage, passed)
    assert faces_of(passed).encodings is None
    assert names(passed) == ["ann"]
    assert faces_of(passed).predicted


def test_faces_found_in_a_frame_are_matched_though_its_detections_are_taken_over(
    find: Make, recognise_: Make, gallery: Path
) -> None:
    """`predicted` is also set by a detector that looks at every second frame only: faces are found all the same."""
    one = frame(scene(ANN))
    one.predicted = True
    (one,) = seen(find(), recognise_(gallery), one)
    assert names(one) == ["ann"]


def test_every_image_is_matched(find: Make, recognise_: Make, gallery: Path) -> None:
    """Images have no track from which a name could be taken over."""
    images = [frame(scene(ANN), index, file=Path(f"{index}.png")) for index in range(3)]
    frames = seen(find(), recognise_(gallery, match_every=2), *images)
    assert [faces_of(one).names for one in frames] == [("ann",)] * 3


def test_sources_do_not_share_identities(find: Make, recognise_: Make, gallery: Path) -> None:
    find_stage, stage = find(), recognise_(gallery)
    who = {"a": "ann", "b": "bob", "c": "zoe"}
    for index in range(8):
        for source, name in who.items():
            (one,) = seen(find_stage, stage, frame(scene((name, 100, 100)), index, source))
            assert tracks(one) == [1]
            assert names(one) == [None if name == "zoe" else name]


def test_a_source_that_has_ended_leaves_no_identity_behind(find: Make, recognise_: Make, gallery: Path) -> None:
    find_stage, stage = find(), recognise_(gallery)
    seen(find_stage, stage, *(frame(scene(ANN), index) for index in range(5)))
    find_stage.end("cam")
    stage.end("cam")
    (one,) = seen(find_stage, stage, frame(scene(("bob", ANN[1], ANN[2])), 0))
    assert (tracks(one), names(one)) == ([1], ["bob"])


def test_names_follow_the_gallery_while_the_run_goes_on(find: Make, recognise_: Make, gallery: Path) -> None:
    find_stage, stage = find(), recognise_(gallery)

    def name_at(index: int) -> str | None:
        return names(*seen(find_stage, stage, frame(scene(ANN), index)))[0]

    assert name_at(0) == "ann"
    changes: list[tuple[Callable[[GalleryFile], None], str | None]] = [
        (lambda file: file.rename("ann", "anna"), "anna"),
        (lambda file: file.remove("anna"), None),
    ]
    for change, expected in changes:
        with GalleryFile.open(gallery) as file:
            change(file)
        begun, index = time.monotonic(), 1
        while name_at(index) != expected:
            assert time.monotonic() - begun < 2, "promised within two seconds"
            time.sleep(0.02)
            index += 1


def test_each_stage_says_what_runs_it_and_who_is_known(find: Make, recognise_: Make, gallery: Path) -> None:
    stage = recognise_(gallery)
    assert stage.describe().startswith("recognise: patterns 112x112 on onnxruntime")
    assert f"3 people in {gallery}, threshold 0.609, the embedder's default" in stage.describe()
    find_stage = find()
    find_stage.close()
    assert find_stage.describe().startswith("faces: finder 384x192 on onnxruntime")
    assert FindFaces(find_stage.finder.spec, CPU, OPTIONS).describe() is None


# ---- in a run


class Kept(Sink):
    """Keeps every frame."""

    name = "kept"

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def consume(self, frame: Frame) -> None:
        self.frames.append(frame)

    def of(self, source: str) -> list[Frame]:
        return [each for each in self.frames if each.source == source]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threads_left(before) == []


def run(sources: Sequence[Scenes], stages: Sequence[Any]) -> tuple[Kept, Runner]:
    kept = Kept()
    runner = Runner(list(sources), list(stages), [kept])
    runner.run()
    assert runner.ledger.balanced
    return kept, runner


def stages_of(finder: ModelSpec, spec: ModelSpec, gallery: Path | None, **options: Any) -> list[Any]:
    return [
        FindFaces(finder, CPU, OPTIONS, sizes=[SIZE]),
        RecogniseFaces(spec, CPU, RecogniseOptions(**options), people_of(gallery)),
    ]


def test_a_run_names_everybody_in_several_sources_at_once(finder: ModelSpec, spec: ModelSpec, gallery: Path) -> None:
    who = {"a": ("ann", "bob"), "b": ("bob", "zoe"), "c": ("zoe", "eve"), "d": ("eve", "ann")}
    sources = [
        Scenes(source, [scene((left, 60 + 8 * index, 100), (right, 404, 156)) for index in range(25)])
        for source, (left, right) in who.items()
    ]
    kept, runner = run(sources, stages_of(finder, spec, gallery))
    for source, people in who.items():
        frames = kept.of(source)
        assert [one.index for one in frames] == list(range(25))
        expected = [None if name == "zoe" else name for name in people]
        assert [names(one) for one in frames] == [expected] * 25
        assert [tracks(one) for one in frames] == [[1, 2]] * 25
    for account in runner.ledger.accounts.values():
        assert (account.captured, account.delivered) == (25, 25)


def test_a_run_of_images_and_a_video_at_once(finder: ModelSpec, spec: ModelSpec, gallery: Path) -> None:
    pictures = [scene((name, 100, 100)) for name in ("ann", "zoe", "bob", "ann")]
    kept, _ = run(
        [Scenes("images", pictures, files=True), Scenes("video", pictures[:1] * 4)], stages_of(finder, spec, gallery)
    )
    assert [faces_of(one).names for one in kept.of("images")] == [("ann",), (None,), ("bob",), ("ann",)]
    assert all(faces_of(one).track_ids is None for one in kept.of("images"))
    assert [names(one) for one in kept.of("video")] == [["ann"]] * 4


class Slow(FindFaces):
    """A finder that takes longer than frames are apart."""

    def collect(self, frame: Frame, ticket: Any) -> None:
        time.sleep(0.04)
        super().collect(frame, ticket)


def test_frames_that_bypass_a_busy_finder_are_all_delivered_with_the_faces_before_them(
    finder: ModelSpec, spec: ModelSpec, gallery: Path
) -> None:
    one_request = replace(CPU, requests=1)
    slow = Slow(finder, one_request, OPTIONS, sizes=[SIZE], bypass=True)
    recogniser = RecogniseFaces(spec, one_request, RecogniseOptions(), people_of(gallery), bypass=True)
    pictures = [scene(("ann", 60 + 2 * index, 100)) for index in range(50)]
    kept, runner = run([Scenes("cam", pictures, every_s=0.01)], [slow, recogniser])
    account = runner.ledger.accounts["cam"]
    assert (account.captured, account.delivered) == (50, 50)
    frames = kept.of("cam")
    assert [one.index for one in frames] == list(range(50))
    passed = [one for one in frames if faces_of(one).predicted]
    assert 10 < len(passed) < 50
    assert all(faces_of(one).encodings is None for one in passed)
    worked = next(index for index, one in enumerate(frames) if not faces_of(one).predicted)
    for last, one in zip(frames[worked:], frames[worked + 1 :], strict=False):
        assert names(one) == ["ann"]
        assert tracks(one) == [1]
        if faces_of(one).predicted:
            assert (faces_of(one).boxes == faces_of(last).boxes).all()


def test_without_bypass_a_slow_finder_drops_frames_and_says_so(
    finder: ModelSpec, spec: ModelSpec, gallery: Path
) -> None:
    stages = stages_of(finder, spec, gallery)
    stages[0] = Slow(finder, replace(CPU, requests=1), OPTIONS, sizes=[SIZE])
    kept, runner = run([Scenes("cam", [scene(ANN)] * 40, every_s=0.01)], stages)
    account = runner.ledger.accounts["cam"]
    assert account.captured == 40
    assert account.delivered == len(kept.frames) < 40
    assert account.delivered + sum(account.dropped.values()) == 40
    assert all(names(one) == ["ann"] and not faces_of(one).predicted for one in kept.frames)


def test_the_pattern_encoder_tells_the_patterns_apart(spec: ModelSpec) -> None:
    """What the tests above rest on."""
    embedder = FaceEmbedder(spec, CPU)
    try:
        rows = encodings(embedder, "ann", "bob", "eve", "zoe")
    finally:
        embedder.close()
    alike = rows @ rows.T
    assert (alike[~np.eye(4, dtype=bool)] < 0.4).all(), alike
    assert SIDE == 64
