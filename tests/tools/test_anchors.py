"""Anchors that are fitted are as good as any partition of the boxes gives, and are written as models want them."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from engines.importers.darknet_cfg import read_sections
from pipeline.errors import ConfigError
from tools.anchor_fit import Fitted, Sizes, best_overlaps, cluster, fit, mean_iou, overlaps, refine, seeds
from tools.anchor_report import as_darknet, report_on, strides_of
from tools.anchors import anchors, sizes_of
from tools.labels import LabelledSet, read_labels

app = typer.Typer()
app.command()(anchors)


def drawn(count: int, seed: int = 0) -> Sizes:
    return np.exp(np.random.default_rng(seed).normal(3, 1, (count, 2)))


# ---- fitting


def test_overlap_is_that_of_boxes_with_one_centre() -> None:
    found = overlaps(np.array([[4.0, 2.0], [2.0, 4.0], [8.0, 8.0]]), np.array([[4.0, 2.0], [4.0, 4.0]]))
    np.testing.assert_allclose(found, [[1, 4 / 12, 8 / 64], [0.5, 0.5, 0.25]])


def partitions(count: int, groups: int) -> Iterator[list[list[int]]]:
    for chosen in itertools.product(range(groups), repeat=count):
        if len(set(chosen)) == groups:
            yield [[box for box in range(count) if chosen[box] == group] for group in range(groups)]


def best_of_partitions(sizes: Sizes, count: int) -> float:
    """The largest mean IoU of all ways to part the boxes, each part with its median or its mean as the anchor."""
    return max(
        mean_iou(sizes, np.array([centre(sizes[part], axis=0) for part in parts]))
        for parts in partitions(len(sizes), count)
        for centre in (np.median, np.mean)
    )


@pytest.mark.parametrize("seed", range(12))
def test_no_partition_of_a_small_set_gives_better_anchors(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 4))
    sizes = drawn(int(random.integers(count, 9 if count < 3 else 8)), seed)
    assert fit(sizes, count, seed).mean_iou >= best_of_partitions(sizes, count) - 1e-9


def test_as_many_anchors_as_boxes_are_the_boxes() -> None:
    sizes = drawn(5)
    fitted = fit(sizes, 5)
    assert fitted.mean_iou == 1
    np.testing.assert_array_equal(fitted.anchors, sizes[np.argsort(sizes.prod(axis=1))])


def test_refinement_is_never_worse_and_mostly_better() -> None:
    better = 0
    for seed in range(20):
        random, sizes = np.random.default_rng(seed), drawn(60, seed)
        start = cluster(sizes, seeds(sizes, 4, random))
        before, after = mean_iou(sizes, start), mean_iou(sizes, refine(sizes, start, random))
        assert after >= before
        better += after > before + 0.001
    assert better > 10


def test_clustering_is_never_worse_than_its_start() -> None:
    for seed in range(20):
        random, sizes = np.random.default_rng(seed), drawn(60, seed)
        start = seeds(sizes, 6, random)
        assert mean_iou(sizes, cluster(sizes, start)) >= mean_iou(sizes, start)


def test_anchors_are_the_same_for_the_same_seed_and_do_not_depend_on_luck() -> None:
    sizes = drawn(300)
    first, again, other = fit(sizes, 6, 1), fit(sizes, 6, 1), fit(sizes, 6, 2)
    np.testing.assert_array_equal(first.anchors, again.anchors)
    assert other.mean_iou == pytest.approx(first.mean_iou, abs=0.003)


def test_groups_of_boxes_are_found_whatever_their_size() -> None:
    centres = np.array([[6.0, 4.0], [30.0, 60.0], [300.0, 200.0]])
    noise = np.random.default_rng(0).normal(0, 0.05, (3, 200, 2))
    sizes = (centres[:, None] * np.exp(noise)).reshape(-1, 2)
    np.testing.assert_allclose(fit(sizes, 3).anchors, centres, rtol=0.03)


def test_a_million_boxes_take_seconds_and_little_memory() -> None:
    sizes = drawn(1_000_000)
    tracemalloc.start()
    began = time.process_time()
    fitted = fit(sizes, 9)
    seconds = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 30
    assert peak < 100e6
    assert fitted.mean_iou == pytest.approx(mean_iou(sizes[::10], fitted.anchors), abs=0.002)


# ---- from labels to sizes


def labelled(boxes: list[Any], width: int = 200, height: int = 100) -> LabelledSet:
    images = [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}]
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [0, 0, *box], "area": 1, "iscrowd": 0}
        for number, box in enumerate(boxes, start=1)
    ]
    return LabelledSet(images, annotations, [{"id": 1, "name": "thing"}])


def test_boxes_are_scaled_as_their_pictures_are() -> None:
    sizes, unusable = sizes_of(labelled([(20, 10), (200, 100)]), (416, 416))
    np.testing.assert_allclose(sizes, [[41.6, 20.8], [416.0, 208.0]])
    assert unusable == 0
    np.testing.assert_allclose(sizes_of(labelled([(20, 10)]), (50, 416))[0], [[10, 5]])


def test_pictures_without_a_size_are_left_out() -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg", "width": 100, "height": 100}]
    annotations = [{"image_id": number, "bbox": [0, 0, 10, 20], "iscrowd": 0} for number in (1, 2)]
    sizes, _ = sizes_of(LabelledSet(images, annotations, []), (100, 100))
    np.testing.assert_allclose(sizes, [[10, 20]])


def test_boxes_without_an_area_and_crowds_are_left_out() -> None:
    labels = labelled([(20, 10), (0, 5), (5, -1), (float("nan"), 3), (float("inf"), 3), (40, 40)])
    labels.annotations[-1]["iscrowd"] = 1
    sizes, unusable = sizes_of(labels, (100, 200))
    np.testing.assert_allclose(sizes, [[20, 10]])
    assert unusable == 4


@pytest.mark.parametrize(
    ("boxes", "words"),
    [([], "no boxes to fit anchors to$"), ([(0, 1), (0, 0)], "all 2 have a side that is no number above 0")],
)
def test_labels_without_boxes_are_refused(boxes: list[Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sizes_of(labelled(boxes), (416, 416))


# ---- the report


def test_recall_tiny_boxes_and_users_are_counted() -> None:
    sizes = np.array([[10.0, 10.0], [10.0, 20.0], [100.0, 100.0], [2.9, 50.0]])
    report = report_on(Fitted(np.array([[10.0, 10.0], [100.0, 100.0]]), 0, 0), sizes, None, (416, 416), 0.5, 0)
    assert report.recall == 0.75  # 0.5 counts
    assert report.users.tolist() == [3, 1]
    assert report.tiny == 0.25
    assert report.mean_iou == pytest.approx((1 + 0.5 + 1 + 29 / (100 + 145 - 29)) / 4)


def test_figures_are_of_the_anchors_as_they_are_written() -> None:
    sizes = drawn(50)
    report = report_on(fit(sizes, 3), sizes, None, (416, 416), 0.5, 0)
    (line,) = (line for line in as_darknet(report).splitlines() if line.startswith("anchors"))
    written = np.array([float(each) for each in line.partition("=")[2].split(",")]).reshape(-1, 2)
    assert best_overlaps(sizes, written)[0].mean() == report.mean_iou


@pytest.mark.parametrize(
    ("count", "asked", "strides"),
    [
        (9, None, (8, 16, 32)),
        (6, None, (16, 32)),
        (12, None, (8, 16, 32, 64)),
        (3, None, (8, 16, 32)),
        (5, None, ()),
        (8, (4, 8), (4, 8)),
    ],
)
def test_anchors_are_shared_by_the_usual_maps(
    count: int, asked: tuple[int, ...] | None, strides: tuple[int, ...]
) -> None:
    sizes = drawn(20)
    fitted = Fitted(sizes[np.argsort(sizes.prod(axis=1))][:count], 0, 0)
    assert report_on(fitted, sizes, asked, (416, 416), 0.5, 0).strides == strides


@pytest.mark.parametrize(
    ("text", "words"),
    [("8;16", "write numbers with commas"), ("16,8", "they must rise"), ("0,8", "they must rise"), ("8,8", "rise")],
)
def test_strides_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        strides_of(text)


# ---- the command


@pytest.fixture
def labels_file(tmp_path: Path) -> Path:
    labels = labelled([tuple(size) for size in drawn(80).clip(3, 90).round(1).tolist()])
    document = {"images": labels.images, "annotations": labels.annotations, "categories": labels.categories}
    (path := tmp_path / "instances.json").write_text(json.dumps(document))
    return path


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def test_the_command_prints_lines_that_darknet_and_yaml_files_can_have(labels_file: Path, tmp_path: Path) -> None:
    result = run("--labels", labels_file, "--input-size", 416)
    assert result.exit_code == 0, result.output
    assert "80 boxes in 1 pictures, scaled to fit into 416 x 416" in result.stdout
    darknet = result.stdout.partition("own mask):\n")[2].partition("\n\n")[0]
    (tmp_path / "own.cfg").write_text(f"[net]\n[yolo]\n{darknet}\n")
    yolo = read_sections(tmp_path / "own.cfg")[1]
    assert yolo.integer("num", 0) == 9
    assert yolo.integers("mask") == [0, 1, 2]
    rows = yaml.safe_load(result.stdout[result.stdout.index("\nanchors:") :])["anchors"]
    assert [side for row in rows for side in row] == pytest.approx(yolo.numbers("anchors"))
    assert [len(row) for row in rows] == [6, 6, 6]


def test_everything_can_be_had_as_json(labels_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "anchors.json"
    printed = json.loads(run("--labels", labels_file, "-k", 6, "--seed", 3, "--json", "--save", target).stdout)
    assert printed == json.loads(target.read_text())
    assert printed["input_size"] == [640, 640]
    assert [len(each) for each in printed["maps"].values()] == [3, 3]
    assert sum(printed["boxes_by_anchor"]) == printed["boxes"] == 80
    assert 0.5 < printed["mean_iou_of_clusters"] <= printed["mean_iou"] + 0.005 < 1


@pytest.mark.parametrize(("name", "begins"), [("a.yaml", "anchors:\n  - ["), ("a.cfg", "num = 9\nanchors = ")])
def test_anchors_are_saved_as_the_file_is_called(name: str, begins: str, labels_file: Path, tmp_path: Path) -> None:
    result = run("--labels", labels_file, "--save", tmp_path / name)
    assert (tmp_path / name).read_text().startswith(begins)
    assert f"wrote {tmp_path / name}" in result.stdout


def test_boxes_anchors_and_coverage_are_drawn(labels_file: Path, tmp_path: Path) -> None:
    assert run("--labels", labels_file, "--plot", tmp_path / "a.png").exit_code == 0
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image is not None
    assert image.std() > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-k", 64], "there are only 4 different box sizes for 64 anchors: say -k 4"),
        (["-k", 4, "--strides", "8,16,32"], "3 maps cannot share 4 anchors equally"),
        (["-k", 4, "--input-size", "big"], "--input-size big: write the side or HEIGHTxWIDTH"),
        (["-k", 4, "--save", "/nowhere/a.cfg"], "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[object], words: str, tmp_path: Path) -> None:
    labels = labelled([(20, 10), (20, 10), (30, 10), (40, 10), (50, 10)])
    document = {"images": labels.images, "annotations": labels.annotations, "categories": labels.categories}
    (path := tmp_path / "instances.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=words):
        raise run("--labels", path, *arguments).exception


def test_anchors_on_real_labels_are_as_good_as_published_ones(shared: Path) -> None:
    """The others are those of YOLOv3's authors, found on all of COCO's training set."""
    yolov3 = [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)]
    result = run("--labels", shared / "data" / "coco" / "instances.json", "--input-size", 416, "--json")
    found = json.loads(result.stdout)
    sizes, _ = sizes_of(read_labels(shared / "data" / "coco" / "instances.json"), (416, 416))
    published = mean_iou(sizes, np.array(yolov3, np.float64))
    assert found["mean_iou"] == pytest.approx(mean_iou(sizes, np.array(found["anchors"])))
    assert published + 0.005 < found["mean_iou"] < 0.65
    assert found["best_possible_recall"]["share"] > 0.8
