"""COCO results: what pycocotools reads, valid at any time, also when the process is killed or the disk is full."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError
from pipeline.frame import Detections, Frame
from pipeline.masks import Masks
from pipeline.picture import Picture
from pipeline.sinks.coco_results import COCO_IDS, CocoResults, is_coco_labels, run_lengths

PICTURE = Picture(bgr=np.zeros((60, 80, 3), np.uint8))
REPOSITORY = Path(__file__).resolve().parents[2]
ONE = [SourceInfo("a", "a.mp4")]


def found(*class_ids: int, masks: Any = None) -> Detections:
    count = len(class_ids)
    boxes = np.array([[10, 20, 30.126, 50]] * count).reshape(-1, 4)
    return Detections(boxes, np.full(count, 0.91234567), np.array(class_ids), masks=masks)


def frame(index: int, detections: Detections | None, source: str = "a", **fields: Any) -> Frame:
    return Frame(source, index, index / 10, 0.0, PICTURE, detections=detections, **fields)


def written(path: Path, *frames: Frame, sources: list[SourceInfo] = ONE) -> CocoResults:
    sink = CocoResults(path)
    sink.check(sources)
    sink.open()
    for each in frames:
        sink.consume(each)
    sink.close()
    return sink


def test_a_result_is_as_coco_has_it(tmp_path: Path) -> None:
    written(tmp_path / "r.json", frame(3, found(0, 2)), frame(4, None), frame(5, found(1)))
    results = json.loads((tmp_path / "r.json").read_text())
    assert results[0] == {"image_id": 3, "category_id": 1, "bbox": [10.0, 20.0, 20.13, 30.0], "score": 0.91235}
    assert [(each["image_id"], each["category_id"]) for each in results] == [(3, 1), (3, 3), (5, 2)]


@pytest.mark.parametrize(
    ("name", "number"),
    [("000000000139.jpg", 139), ("COCO_val2014_000000000139.jpg", 139), ("cat-7b.png", 7), ("cat.png", 4)],
)
def test_an_image_has_the_number_in_its_name(tmp_path: Path, name: str, number: int) -> None:
    written(tmp_path / "r.json", frame(4, found(0), file=Path("2024") / name))
    assert [each["image_id"] for each in json.loads((tmp_path / "r.json").read_text())] == [number]


def test_two_images_of_one_number_are_said(tmp_path: Path) -> None:
    files = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
    frames = [frame(index, found(0), file=Path(name)) for index, name in enumerate(files)]
    sink = written(tmp_path / "r.json", *frames)
    assert sink.remark() == "sinks.coco: 1 images have a number that an earlier one has: results are mixed up"


def coco_names() -> tuple[str, ...]:
    """The zoo's list of COCO's classes."""
    import yaml

    text = (REPOSITORY / "engines" / "zoo.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["labels"]["coco80"])


def test_the_classes_of_coco_get_its_own_ids(tmp_path: Path, shared: Path) -> None:
    names = coco_names()
    frames = [frame(index, found(index), labels=names) for index in range(80)]
    written(tmp_path / "r.json", *frames)
    truth = next(path for path in shared.rglob("*instances*.json"))
    by_id = {each["id"]: each["name"] for each in json.loads(truth.read_text())["categories"]}
    ids = [each["category_id"] for each in json.loads((tmp_path / "r.json").read_text())]
    assert tuple(by_id[number] for number in ids) == names


def test_other_labels_count_from_1() -> None:
    names = coco_names()
    assert is_coco_labels(names)
    assert not is_coco_labels(names[:79])
    assert not is_coco_labels(tuple(reversed(names)))
    assert not is_coco_labels(())
    assert (len(COCO_IDS), COCO_IDS[0], COCO_IDS[-1]) == (80, 1, 90)


def ground_truth(tmp_path: Path, sink_file: Path) -> Any:
    """Results of ours, loaded by pycocotools as results for images of the same ids."""
    coco = pytest.importorskip("pycocotools.coco")
    results = json.loads(sink_file.read_text())
    images = [{"id": number, "width": 80, "height": 60} for number in sorted({r["image_id"] for r in results})]
    truth = [
        {"id": place + 1, "iscrowd": 0, "area": r["bbox"][2] * r["bbox"][3], **r} for place, r in enumerate(results)
    ]
    data = {"info": {}, "images": images, "annotations": truth, "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "gt.json").write_text(json.dumps(data))
    return coco.COCO(str(tmp_path / "gt.json"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_pycocotools_loads_them_and_finds_them_perfect(tmp_path: Path, kind: str) -> None:
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    random = np.random.default_rng(3)
    frames = []
    for index in range(5):
        dense = np.zeros((1, 60, 80), bool)
        left, top = random.integers(0, 30, 2).tolist()
        dense[0, top : top + 25, left : left + 40] = random.random((25, 40)) > 0.2
        frames.append(frame(index, found(0, masks=dense)))
    written(tmp_path / "r.json", *frames)
    truth = ground_truth(tmp_path, tmp_path / "r.json")
    results = truth.loadRes(str(tmp_path / "r.json"))
    evaluation = cocoeval.COCOeval(truth, results, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    for index, each in enumerate(frames):
        assert each.detections is not None
        assert each.detections.masks is not None
        (annotation,) = results.loadAnns(results.getAnnIds([index]))
        assert np.array_equal(results.annToMask(annotation), each.detections.masks[0])


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_are_those_of_pycocotools(dense: Any) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    mine = run_lengths(Masks.of(dense[None]), 0)
    theirs = mask.encode(np.asfortranarray(dense, np.uint8))
    assert mine == {"size": theirs["size"], "counts": theirs["counts"].decode()}


def test_a_large_mask_is_that_of_pycocotools() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    dense = np.random.default_rng(1).random((1, 1080, 1920)) > 0.5
    dense[0, 300:800] = True
    theirs = mask.encode(np.asfortranarray(dense[0], np.uint8))
    assert run_lengths(Masks.of(dense), 0)["counts"] == theirs["counts"].decode()


def test_the_file_is_whole_after_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("[an older one")
    sink = CocoResults(path)
    sink.check(ONE)
    sink.open()
    assert (path.read_text(), sink.files) == ("[an older one", [])
    for index, each in enumerate([None, found(), found(0), found(0, 0), None, found(0)]):
        sink.consume(frame(index, each))
        assert len(json.loads(path.read_text())) == [0, 0, 1, 3, 3, 4][index]
    sink.close()
    assert sink.files == [path]


KILLED = """
import itertools, sys
from pathlib import Path
from tests.pipeline.test_coco_results import CocoResults, ONE, found, frame
sink = CocoResults(Path(sys.argv[1]))
sink.check(ONE)
for index in itertools.count():
    sink.consume(frame(index, found(0, 1, 2)))
    if index == 100:
        print("go", flush=True)
"""


def test_a_killed_process_leaves_a_whole_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "r.json")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    results = json.loads((tmp_path / "r.json").read_text())
    assert len(results) >= 303
    assert [each["image_id"] for each in results[::3]] == list(range(len(results) // 3))


def test_a_full_disk_costs_results_and_leaves_a_whole_file(disk_of: Callable[[str], Path]) -> None:
    path = disk_of("32k") / "r.json"
    sink = written(path, *(frame(index, found(0, 1, 2)) for index in range(500)))
    results = json.loads(path.read_text())
    assert len(results) > 200
    assert sink.dropped == 1500 - len(results)
    assert sink.remark() == f"sinks.coco: {sink.dropped} results are missing in {path}: the disk was full"


def test_a_disk_without_any_room_leaves_an_empty_list_or_nothing(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("16k")
    (disk / "ballast").write_bytes(bytes(16_384))
    sink = written(disk / "r.json", frame(0, found(0)), frame(1, found(0)))
    assert sink.dropped == 2
    assert (disk / "r.json").read_text() in ("", "[]\n")


def test_several_sources_have_a_file_each(tmp_path: Path) -> None:
    sources = [SourceInfo("a", "a.mp4"), SourceInfo("b", "b.mp4")]
    sink = written(tmp_path / "r.json", frame(0, found(0)), frame(9, found(0), source="b"), sources=sources)
    assert sink.files == [tmp_path / "r-a.json", tmp_path / "r-b.json"]
    assert [json.loads(path.read_text())[0]["image_id"] for path in sink.files] == [0, 9]


def test_a_source_that_would_be_replaced_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^sinks\.coco: .*r\.json is also a source: it would be overwritten$"):
        CocoResults(tmp_path / "r.json").check([SourceInfo("a", str(tmp_path / "r.json"))])
    with pytest.raises(ConfigError, match=r"^sinks\.coco: .* is a folder: name a file in it$"):
        CocoResults(tmp_path).check(ONE)
