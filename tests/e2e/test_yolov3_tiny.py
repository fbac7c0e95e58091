"""YOLOv3-tiny in Darknet's own files finds what another reader of those files finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.engine import Backend, EngineOptions, open_engine
from engines.errors import ModelError
from engines.spec import ModelSpec
from engines.trust import pictures
from engines.trust.reference import PlainFile
from engines.zoo import Zoo
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.picture import Picture

KNOWN: dict[str, list[tuple[str, float, tuple[float, float, float, float]]]] = {
    "face-035.jpg": [("person", 0.5562, (13.1, 23.5, 162.9, 147.2))],
    "street-030.jpg": [
        ("person", 0.9423, (159.2, -0.3, 387.0, 280.9)),
        ("car", 0.7784, (2.6, 116.7, 135.9, 261.7)),
        ("car", 0.5195, (37.8, 139.4, 89.0, 249.3)),
        ("car", 0.5047, (55.8, 135.8, 110.6, 253.4)),
    ],
    "street-062.jpg": [],
    "street-135.jpg": [
        ("person", 0.9738, (378.1, -4.2, 492.9, 258.3)),
        ("person", 0.6962, (556.2, 135.0, 607.5, 255.0)),
        ("person", 0.6620, (523.3, 118.4, 637.9, 266.6)),
        ("bicycle", 0.5589, (391.9, 138.2, 531.2, 269.1)),
        ("bicycle", 0.5467, (420.7, 175.4, 486.2, 257.2)),
        ("bus", 0.3399, (21.4, 19.0, 312.3, 268.8)),
    ],
}
"""Class, score and box (xyxy) of what OpenCV 4.14 finds with the same files: `cv2.dnn.readNetFromDarknet`, input
416 x 416 letterboxed in the centre with 127, RGB / 255; the answers of its two Region layers, best class above 0.3,
`cv2.dnn.NMSBoxes` per class at IoU 0.45. Boxes are not clipped."""


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    """The model; fetched into the user's cache once (66 MB), skips where it cannot be had."""
    try:
        return Zoo.load().spec("yolov3-tiny")
    except ModelError as error:
        pytest.skip(f"no yolov3-tiny: {error}")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_what_is_found_is_what_another_reader_finds(backend: Backend, spec: ModelSpec) -> None:
    engine = open_engine(spec, EngineOptions(backend, "fp32"))
    try:
        detect = PictureDetector(spec, engine, DetectorOptions(confidence=0.3, iou=0.45))
        for name, known in KNOWN.items():
            image = cv2.imread(str(pictures.FOLDER / name))
            assert image is not None
            found = detect(Picture(bgr=np.asarray(image, np.uint8)))
            assert [spec.labels[each] for each in found.class_ids] == [label for label, _, _ in known], name
            np.testing.assert_allclose(found.scores, [score for _, score, _ in known], atol=0.01)
            height, width = image.shape[:2]
            boxes = np.array([box for _, _, box in known]).reshape(-1, 4).clip(0, [width, height] * 2)
            np.testing.assert_allclose(found.boxes, boxes, atol=1)
    finally:
        engine.close()


def test_the_reference_of_the_parity_check_reads_darknet_too(spec: ModelSpec) -> None:
    batch = np.full((1, 416, 416, 3), 127, np.uint8)
    assert [each.shape for each in PlainFile(spec).infer(batch).values()] == [(1, 255, 26, 26), (1, 255, 13, 13)]


def test_the_program_runs_it_from_its_files_alone(spec: ModelSpec, tmp_path: Path) -> None:
    for path in (spec.path, spec.path.with_suffix(".cfg")):
        (tmp_path / f"own{path.suffix}").symlink_to(path)
    (tmp_path / "own.names").write_text("\n".join(spec.labels))
    events = tmp_path / "events.jsonl"
    picture, model = pictures.FOLDER / "street-135.jpg", tmp_path / "own.cfg"
    options = ["--source", str(picture), "--model", str(model), "--events", str(events)]
    cache = {**os.environ, "FRAMELOOM_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "tools.cli", "run", *options]
    done = subprocess.run(command, env=cache, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    frame = next(line for line in map(json.loads, events.read_text().splitlines()) if line["type"] == "frame")
    assert [each["class"] for each in frame["detections"]] == [label for label, _, _ in KNOWN["street-135.jpg"]]
