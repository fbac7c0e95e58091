"""TensorRTEngine on a real GPU: what no fake can tell. `test_engine.py` and `test_engine_frames.py` run there, too.

The model is the zoo's, which is fetched, or found through FRAMELOOM_MIRROR; the pictures are those of the parity gate.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from engines.engine import Batch, Candidates
from engines.errors import EngineStale
from engines.spec import ModelSpec
from engines.tensorrt.build import build_plan
from engines.tensorrt.network import network_of
from engines.tensorrt.recipe import PlanPrecision, Recipe
from engines.trust.pictures import FOLDER
from engines.trust.reference import PlainFile
from engines.zoo import Zoo
from tests.engines.tensorrt.machine import Real, noise, same

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu() -> Iterator[Real]:
    real = Real()
    yield real
    real.close()


@pytest.fixture
def yolox() -> ModelSpec:
    return Zoo.load().spec("yolox-nano")


@pytest.fixture
def streets() -> Batch:
    """Six pictures of streets."""
    files = sorted(FOLDER.glob("street-*.jpg"))[:6]
    images = [image for file in files if (image := cv2.imread(str(file))) is not None]
    return np.stack([cv2.resize(image, (416, 416)) for image in images]).astype(np.uint8)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.01), ("fp16", 0.1)])
def test_scores_are_the_files_in_each_precision(
    gpu: Real, yolox: ModelSpec, streets: Batch, precision: PlanPrecision, tolerance: float
) -> None:
    recipe = Recipe(precision, batch=4, usual_batch=1)
    plan = build_plan(gpu.flavour, network_of(yolox, recipe), recipe)
    ours, theirs = gpu.open(yolox, plan=plan).infer(streets)["output"], PlainFile(yolox).infer(streets)["output"]
    np.testing.assert_allclose(ours[..., 4:], theirs[..., 4:], atol=tolerance)


def test_recorded_and_not_recorded_runs_are_the_same(gpu: Real, yolox: ModelSpec, streets: Batch) -> None:
    best = Candidates(classes=5, objectness=4, count=300)
    plan = gpu.plan(yolox, 4, best)
    recorded = gpu.open(yolox, plan=plan, candidates=best)
    plain = gpu.open(yolox, plan=plan, candidates=best, cuda_graph=False)
    for _ in range(3):
        for count in (1, 3, 4, 6, 2):
            batch = streets[:count]
            same(recorded.infer(batch), plain.infer(batch), 1e-3)
            same(recorded.submit(batch).result(), plain.submit(batch).result(), 1e-3)


def test_memory_comes_back_when_engines_are_closed(gpu: Real, yolox: ModelSpec) -> None:
    plan = gpu.plan(yolox, 4)
    watch = gpu.cuda()
    watch.activate()
    free = []
    for _ in range(4):
        gpu.open(yolox, plan=plan).close()
        watch.activate()
        free.append(watch.memory()[0])
    watch.close()
    assert free[-1] >= free[0] - 8 * 2**20, "each engine keeps some"


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_damaged_plan_is_stale_and_not_a_crash(gpu: Real, yolox: ModelSpec, keep: float) -> None:
    plan = gpu.plan(yolox)
    torn = plan[: int(keep if keep >= 1 else keep * len(plan))]
    with pytest.raises(EngineStale, match="build it again"):
        gpu.open(yolox, plan=torn)


def test_a_kernel_that_crashes_is_a_lost_device_and_the_process_ends_in_order(gpu: Real) -> None:
    """In a process of its own: nothing can use the GPU in one that has lost it."""
    script = """
        import numpy as np
        from engines.errors import DeviceLost
        from engines.zoo import Zoo
        from tests.engines.tensorrt.machine import Real

        real = Real()
        engine = real.open(Zoo.load().spec("yolox-nano"))
        pending = engine.submit(np.zeros((1, 416, 416, 3), np.uint8))
        cuda = real.cuda()
        cuda.activate()
        source = 'extern "C" __global__ void crash(int* where) { *where = 1; }'
        stream = cuda.create_stream()
        cuda.launch(cuda.compile_kernel(source, "crash"), (1, 1, 1), (1, 1, 1), [np.uint64(8)], stream)
        for _ in range(3):
            try:
                for _ in range(50):
                    engine.submit(np.zeros((1, 416, 416, 3), np.uint8)).result()
            except DeviceLost:
                print("lost")
        engine.close()
        print("closed")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.split(), done.returncode) == (["lost"] * 3 + ["closed"], 0), done.stderr


def test_a_whole_frame_gives_the_scores_of_the_same_frame_cut_on_the_cpu(gpu: Real, yolox: ModelSpec) -> None:
    from pipeline.infer.letterbox import Letterbox
    from pipeline.picture import Picture, Planes

    engine = gpu.open(yolox, most=2)
    picture = Picture(planes=Planes(noise(720 * 3 // 2, 1280), "bt709"))
    plan = Letterbox.plan((720, 1280), engine.input_size, "letterbox-topleft")
    cut = plan.blank(114)
    plan.cut(picture, cut)
    for _ in range(3):
        ours = engine.submit_frames([plan.uncut(picture, 114)] * 2).result()["output"]
        np.testing.assert_allclose(ours[1, :, 4:], engine.infer(cut[None])["output"][0, :, 4:], atol=0.02)
