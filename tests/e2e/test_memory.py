"""Memory stays flat: what a run keeps does not grow with its frames. With the real model, at its smallest input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.program import environment

FRAMES = 20_000
DRIFT_MB = 5.0
WITHIN_S = 400

PROGRAM = """
import json, sys
import psutil
from pipeline import Frame, Pipeline, Stage

class Mean(Stage):
    name = "mean"

    def process(self, frame: Frame) -> None:
        frame.events.append({"event": "mean", "value": float(frame.image.mean())})

process = psutil.Process()
config = {
    "sources": [f"synthetic://64x48@30?frames={sys.argv[1]}"],
    "detect": {"input_size": 64, "confidence": 0.01},
    "sinks": {"record": "out.mp4", "events": "events.jsonl"},
}
samples, threads = [], []
for frame in Pipeline(config, stages=[Mean()]):
    if frame.index % 500 == 0:
        samples.append(process.memory_info().rss / 1e6)
        threads.append(process.num_threads())
print(json.dumps({"rss_mb": samples, "threads": threads, "fds": process.num_fds()}))
"""


@pytest.mark.timeout(420)
@pytest.mark.usefixtures("shared")
def test_twenty_thousand_frames_leave_the_memory_flat(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(FRAMES)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rss = told["rss_mb"]
    assert len(rss) == FRAMES / 500
    warm = max(rss[: len(rss) // 4])
    assert max(rss) - warm < DRIFT_MB, rss
    assert len(set(told["threads"])) <= 2
    summary = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert summary["sources"]["synthetic"]["delivered"] == FRAMES
