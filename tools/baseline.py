"""The loop people write first: OpenCV reads, ONNX Runtime infers, OpenCV draws and writes; one thing after the other.

It shares no code with the pipeline, only the model file. What it writes (mp4v) is what OpenCV's own encoder offers.
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

STRIDES = (8, 16, 32)


def run_baseline(model: Path, labels: tuple[str, ...], video: Path, output: Path, frames: int) -> float:
    """Detect in a video with a YOLOX file and write an annotated copy.

    Returns:
        Frames per second, from the first read to the closed file.
    """
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    size = session.get_inputs()[0].shape[2]
    grid, strides = _cells(size)
    capture = cv2.VideoCapture(str(video))
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(output), fourcc, capture.get(cv2.CAP_PROP_FPS), (width, height))
    session.run(None, {name: np.zeros((1, 3, size, size), np.float32)})
    started, done = time.perf_counter(), 0
    while done < frames:
        read, image = capture.read()
        if not read:
            break
        scale = min(size / height, size / width)
        resized = cv2.resize(image, (int(width * scale), int(height * scale)))
        padded = np.full((size, size, 3), 114, np.uint8)
        padded[: resized.shape[0], : resized.shape[1]] = resized
        blob = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32)
        rows = session.run(None, {name: blob})[0][0]
        centres = (rows[:, :2] + grid) * strides / scale
        sides = np.exp(rows[:, 2:4]) * strides / scale
        scores = rows[:, 5:] * rows[:, 4:5]
        ids = scores.argmax(axis=1)
        best = scores[np.arange(len(scores)), ids]
        boxes = np.concatenate([centres - sides / 2, sides], axis=1)
        for i in cv2.dnn.NMSBoxesBatched(boxes.tolist(), best.tolist(), ids.tolist(), 0.3, 0.45):
            x, y, w, h = (int(value) for value in boxes[i])
            cv2.rectangle(image, (x, y), (x + w, y + h), (0, 255, 0), 2)
            text = f"{labels[ids[i]]} {best[i]:.2f}"
            cv2.putText(image, text, (x, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0), 1, cv2.LINE_AA)
        writer.write(image)
        done += 1
    writer.release()
    capture.release()
    return done / (time.perf_counter() - started)


def _cells(size: int) -> tuple[np.ndarray, np.ndarray]:
    grids, strides = [], []
    for stride in STRIDES:
        cells = size // stride
        x, y = np.meshgrid(np.arange(cells), np.arange(cells))
        grids.append(np.stack([x, y], 2).reshape(-1, 2))
        strides.append(np.full((cells * cells, 1), stride))
    return np.concatenate(grids), np.concatenate(strides)
