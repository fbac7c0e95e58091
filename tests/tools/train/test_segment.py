"""Training a U-Net for real, on pictures of shapes: it learns, can be left and resumed, and becomes a model."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch

from engines.engine import EngineOptions, open_engine
from engines.errors import BackendUnavailable, FrameloomError, ModelError, ParityFailed
from engines.trust.reference import PlainFile
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from pipeline.infer.picture_segmenter import find_segmenter
from tools.labelled_maps import find_pairs
from tools.segment_scores import mean_iou
from tools.train import segment_export, segment_loop
from tools.train.checkpoint import NAME as CHECKPOINT
from tools.train.segment import CURVES, PREVIEW, Request, segment, train_segment
from tools.train.segment_data import Classes, Maps
from tools.train.segment_loop import SegmentTraining, one_cycle, stretched, to_input
from tools.train.segment_settings import SegmentSettings
from tools.train.unet import UNet

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("ground", "disc", "bar")
VOID = 9
SMALL = SegmentSettings(height=16, width=24, channels=4, depth=2, epochs=4, batch=4, learning_rate=1e-2)
LEARNS = replace(SMALL, height=32, width=48, channels=8, epochs=12, loss="dice")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))


def draw(number: int) -> tuple[Any, Any]:
    """Draw a disc and a bar of any colours but with their own patterns on a dark ground; return picture and label."""
    random = np.random.default_rng(number)
    picture = random.integers(0, 60, (40, 60, 3)).astype(np.uint8)
    label = np.zeros((40, 60), np.uint8)
    centre = int(random.integers(12, 48)), int(random.integers(10, 30))
    cv2.circle(label, centre, int(random.integers(5, 9)), 1, -1)
    left = int(random.integers(0, 40))
    label[32:38, left : left + 20] = 2
    picture[label == 1] = (random.integers(150, 256), 60, 60)
    picture[label == 2] = (60, random.integers(150, 256), 200)
    label[0] = VOID
    return picture, label


def write_shapes(folder: Path, numbers: range) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in numbers:
        picture, label = draw(number)
        cv2.imwrite(str(folder / f"images/{number:03}.png"), picture)
        cv2.imwrite(str(folder / f"labels/{number:03}.png"), label)
    return folder


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    folder = write_shapes(tmp_path / "shapes", range(10))
    (folder / "classes.txt").write_text("\n".join(NAMES))
    return folder


def maps(folder: Path) -> Maps:
    return Maps(find_pairs(folder / "images", folder / "labels"), Classes(NAMES, VOID))


def trained(
    folder: Path, settings: SegmentSettings, checkpoint: Path | None = None, resume: Path | None = None
) -> SegmentTraining:
    training = SegmentTraining(maps(folder), maps(folder), settings)
    if resume is not None:
        training.resume(resume)
    training.run(checkpoint, lambda tested: None, lambda done, total: None)
    return training


def without_times(history: list[segment_loop.Tested]) -> list[segment_loop.Tested]:
    return [replace(tested, seconds=0.0) for tested in history]


def same_weights(a: UNet, b: UNet) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


# ---- it learns


def test_pictures_that_were_never_shown_are_segmented_after_training(tmp_path: Path) -> None:
    learn, test = write_shapes(tmp_path / "learn", range(24)), write_shapes(tmp_path / "test", range(100, 106))
    training = SegmentTraining(maps(learn), maps(test), LEARNS)
    before = mean_iou(training.test())
    training.run(None, lambda tested: None, lambda done, total: None)
    assert before < 0.3
    assert training.best.mean_iou > 0.75
    assert training.history[-1].loss < 0.5 * training.history[0].loss
    assert training.best.accuracy > 0.95
    in_float32 = mean_iou(training.test(training.best_network()))
    assert in_float32 == pytest.approx(training.best.mean_iou, abs=0.05)


def test_a_picture_is_segmented_in_its_own_size(shapes: Path) -> None:
    training = trained(shapes, replace(SMALL, epochs=1))
    assert training.segment(np.zeros((37, 101, 3), np.uint8)).shape == (37, 101)
    assert training.test().sum() == 10 * 39 * 60  # all pixels but the row that does not count


@pytest.mark.parametrize("loss", ["weighted", "focal"])
def test_the_other_losses_fall_too(shapes: Path, loss: Any) -> None:
    training = trained(shapes, replace(SMALL, loss=loss, epochs=8))
    assert training.history[-1].loss < 0.7 * training.history[0].loss


def test_the_learning_rate_is_torchs_one_cycle() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], 1.0)
    wanted = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, 101, final_div_factor=1e4)
    for iteration in range(101):
        # torch's peak is at iteration 29.3 of 101, this one's at 30
        assert one_cycle(iteration / 100) == pytest.approx(wanted.get_last_lr()[0], abs=0.06)
        optimiser.step()
        if iteration < 100:
            wanted.step()
    assert [one_cycle(progress) for progress in (0, 0.3)] == pytest.approx([1 / 25, 1])
    assert one_cycle(1) < 1e-5


def test_the_same_seed_gives_the_same_network_and_another_gives_another(shapes: Path) -> None:
    first, second, other = (trained(shapes, replace(SMALL, epochs=2, seed=seed)) for seed in (3, 3, 4))
    assert without_times(first.history) == without_times(second.history)
    assert same_weights(first.best_network(), second.best_network())
    assert not same_weights(first.best_network(), other.best_network())


# ---- it can be left and resumed


@pytest.mark.parametrize("mixed_precision", [True, False])
def test_a_resumed_training_equals_one_that_was_not_interrupted(
    shapes: Path, tmp_path: Path, mixed_precision: bool
) -> None:
    settings = replace(SMALL, mixed_precision=mixed_precision)
    whole = trained(shapes, settings, tmp_path / "whole.pt")

    def leave(done: int, total: int) -> None:
        if done == 8:  # in the middle of the third epoch of three batches
            raise KeyboardInterrupt

    part = SegmentTraining(maps(shapes), maps(shapes), settings)
    with pytest.raises(KeyboardInterrupt):
        part.run(tmp_path / "part.pt", lambda tested: None, leave)
    assert part.history[-1].epoch == 2
    resumed = trained(shapes, settings, tmp_path / "part.pt", resume=tmp_path / "part.pt")
    assert without_times(resumed.history) == without_times(whole.history)
    states = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "part")]
    for part_of in ("network", "best"):
        assert all(torch.equal(value, states[1][part_of][name]) for name, value in states[0][part_of].items())


def test_epochs_and_learning_rate_may_change_and_nothing_else(shapes: Path, tmp_path: Path) -> None:
    trained(shapes, replace(SMALL, epochs=2), tmp_path / "c.pt")
    longer = trained(shapes, replace(SMALL, epochs=3, learning_rate=1e-3), resume=tmp_path / "c.pt")
    assert [tested.epoch for tested in longer.history] == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"was made with other batch: 4, now 2; leave out --resume"):
        trained(shapes, replace(SMALL, batch=2), resume=tmp_path / "c.pt")
    (shapes / "images/009.png").rename(shapes / "images/010.png")
    (shapes / "labels/009.png").rename(shapes / "labels/010.png")
    with pytest.raises(ConfigError, match=r"was made with other pictures; leave out --resume"):
        trained(shapes, SMALL, resume=tmp_path / "c.pt")


def test_what_is_no_checkpoint_is_said(shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with pytest.raises(ConfigError, match=r"there is nothing to resume: .*No such file"):
        trained(shapes, SMALL, resume=path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ConfigError, match="is damaged"):
        trained(shapes, SMALL, resume=path)
    trained(shapes, replace(SMALL, epochs=1), path)
    whole = torch.load(path, weights_only=True)
    for part, nothing in (("history", []), ("best", {}), ("network", {})):
        torch.save({**whole, part: nothing}, path)
        with pytest.raises(ConfigError, match="is damaged"):
            trained(shapes, SMALL, resume=path)


# ---- it breaks


def test_a_loss_that_is_no_number_stops_the_training_and_the_last_good_checkpoint_stays(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pt"
    training = SegmentTraining(maps(shapes), maps(shapes), SMALL)

    def spoil(done: int, total: int) -> None:
        if done == 7:
            with torch.no_grad():
                training.network.classify.weight.fill_(math.nan)

    words = r"the loss is nan in epoch 3, iteration 8; the checkpoint of epoch 2 is kept: go on from it with --resume"
    with pytest.raises(FrameloomError, match=words):
        training.run(path, lambda tested: None, spoil)
    good = torch.load(path, weights_only=True)
    assert all(torch.isfinite(value).all() for value in good["network"].values())
    assert trained(shapes, replace(SMALL, learning_rate=1e-3), resume=path).history[-1].epoch == 4


def test_weights_that_broke_in_the_last_step_of_an_epoch_are_not_kept(shapes: Path, tmp_path: Path) -> None:
    training = SegmentTraining(maps(shapes), maps(shapes), SMALL)

    def spoil(done: int, total: int) -> None:
        if done == 3:
            with torch.no_grad():
                training.network.classify.weight.fill_(math.inf)

    with pytest.raises(FrameloomError, match=r"no number, before there was anything to keep: choose a smaller"):
        training.run(tmp_path / "c.pt", lambda tested: None, spoil)
    assert not (tmp_path / "c.pt").exists()


# ---- it becomes a model


def request_for(shapes: Path, **changes: Any) -> Request:
    out = shapes.parent / "out"
    plain = Request(shapes / "images", shapes / "labels", shapes / "classes.txt", "my-shapes", out, SMALL, ignore=VOID)
    return replace(plain, **changes)


def train(request: Request) -> list[str]:
    lines: list[str] = []
    train_segment(request, progress=lambda done, total: None, say=lines.append)
    return lines


def test_the_model_is_exported_compared_registered_and_says_what_pytorch_says(shapes: Path) -> None:
    lines = train(request_for(shapes))
    assert lines[0] == "learning 3 classes from 8 pictures, testing on 2 others, on cpu: 8 iterations"
    assert [line.split(":")[0] for line in lines[1:5]] == [f"epoch {number}/4" for number in range(1, 5)]
    assert lines[-1].startswith("IoU by class: ground 0.")

    out = shapes.parent / "out"
    entry = Zoo.load().entry("my-shapes")
    assert (entry.task, entry.labels, entry.input.multiple) == ("segment", NAMES, 4)
    assert (entry.head, entry.head_options.scores) == ("classes", "logits")
    assert find_segmenter("my-shapes").labels == NAMES  # what `frameloom run` looks for
    assert (entry.input.height, entry.input.width, entry.input.fit) == (16, 24, "stretch")
    assert "on 2 held-out pictures, in their own size; differs from PyTorch by" in str(entry.accuracy)
    curves, preview = (cv2.imread(str(out / name)) for name in (CURVES, PREVIEW))
    assert curves is not None
    assert curves.std() > 5
    assert preview is not None
    assert preview.shape == (2 * round(40 * 320 / 60), 3 * 320, 3)  # two held-out pictures, three each

    best = UNet(3, SMALL.channels, SMALL.depth)
    best.load_state_dict(torch.load(out / CHECKPOINT, weights_only=True)["best"])
    best.eval()
    pictures = np.stack([stretched(draw(number)[0], SMALL) for number in range(3)])
    with torch.no_grad():
        wanted = best(to_input(pictures)).numpy()
    spec = Zoo.load().spec("my-shapes")
    engine = open_engine(spec, EngineOptions(backend="openvino", precision="fp32"))
    try:
        for count in (1, 3):
            np.testing.assert_allclose(engine.infer(pictures[:count])["logits"], wanted[:count], atol=1e-3)
    finally:
        engine.close()
    twice = np.stack([cv2.resize(picture, (48, 32)) for picture in pictures])
    assert PlainFile(spec, (32, 48)).infer(twice)["logits"].shape == (3, 3, 32, 48)


def test_a_file_that_says_something_else_than_the_network_is_not_registered(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = segment_export.export_unet

    def other(network: UNet, settings: SegmentSettings, path: Path) -> None:
        real(UNet(3, SMALL.channels, SMALL.depth, seed=99).eval(), settings, path)

    monkeypatch.setattr(segment_export, "export_unet", other)
    with pytest.raises(ParityFailed, match=r"is not what was trained: ONNX Runtime differs by .*, allowed 0.01"):
        train(request_for(shapes))
    assert "my-shapes" not in Zoo.load()


def test_a_taken_name_and_an_old_checkpoint_are_said_before_any_work(shapes: Path) -> None:
    with pytest.raises(ModelError, match="a model of that name comes with Frameloom"):
        train(request_for(shapes, name="sface"))
    assert not (shapes.parent / "out").exists()
    settings = replace(SMALL, epochs=1)
    train(request_for(shapes, settings=settings))
    with pytest.raises(ModelError, match="say --replace"):
        train(request_for(shapes, settings=settings))
    with pytest.raises(ConfigError, match=r"checkpoint.pt exists: --resume goes on with it"):
        train(request_for(shapes, settings=settings, replace=True))
    assert "resumed after epoch 1" in train(request_for(shapes, settings=settings, replace=True, resume=True))


def test_a_class_that_no_picture_shows_is_said(shapes: Path) -> None:
    (shapes / "classes.txt").write_text("ground\ndisc\nbar\nstar\n")
    lines = train(request_for(shapes, settings=replace(SMALL, epochs=1, loss="weighted")))
    assert lines[0] == "note: no picture to learn from shows star"
    assert lines[-1].endswith("star -") or "star 0.000" in lines[-1]


def test_labels_that_do_not_do_are_said_before_the_training(shapes: Path) -> None:
    with pytest.raises(ConfigError, match=r"has the value 9 \(row 0, column 0\), but there are 3 classes"):
        train(request_for(shapes, ignore=None))
    (shapes / "classes.txt").write_text("ground\ndisc\n")
    with pytest.raises(ConfigError, match=r"\.png has the value 2 .*, but there are 2 classes, 0\.\.1"):
        train(request_for(shapes))
    (shapes / "classes.txt").write_text("ground\nvoid\n")
    with pytest.raises(ConfigError, match=r"classes\.txt leaves 1 classes to tell apart: give 2 to 255"):
        train(request_for(shapes, ignore=1))
    with pytest.raises(ConfigError, match="--val-images and --val-labels belong together"):
        train(request_for(shapes, val_images=shapes / "images", ignore=7))
    assert not (shapes.parent / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
def test_a_gpu_that_is_not_there_is_said(shapes: Path) -> None:
    with pytest.raises(FrameloomError, match="PyTorch sees no CUDA device here"):
        train(request_for(shapes, device="cuda"))


def test_too_little_memory_is_said_with_what_makes_it_less(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(pictures: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(segment_loop, "to_input", too_much)
    words = "not enough memory for a batch of 4 pictures of 24x16 with 4 channels: choose a smaller --batch, --size or"
    with pytest.raises(FrameloomError, match=words):
        trained(shapes, SMALL)


# ---- the command


def command(*arguments: object) -> Any:  # typer does not export the result's type
    app = typer.Typer()
    app.command()(segment)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def options(shapes: Path, *more: object) -> list[object]:
    folders = ("--images", shapes / "images", "--labels", shapes / "labels", "--classes", shapes / "classes.txt")
    return [*folders, "--ignore", VOID, "--name", "mine", "--out", shapes.parent / "o", *more]


def test_the_command_trains_with_the_options_it_is_given(shapes: Path) -> None:
    others = write_shapes(shapes.parent / "others", range(20, 23))
    test_on = ("--val-images", others / "images", "--val-labels", others / "labels")
    small = ("--size", "16x24", "--width", 3, "--depth", 2, "--epochs", 2, "--batch", 5, "--test-every", 2)
    changed = ("--loss", "focal", "--no-flip", "--zoom", 1.2, "--colour", 0, "--full-precision")
    result = command(*options(shapes, *test_on, *small, *changed))
    assert result.exit_code == 0, result.exception
    assert "learning 3 classes from 10 pictures, testing on 3 others, on cpu: 4 iterations" in result.stdout
    assert "epoch 2/2: loss" in result.stdout
    assert "epoch 1/2" not in result.stdout
    assert "registered as mine: mIoU 0." in result.stdout
    made_with = torch.load(shapes.parent / "o" / CHECKPOINT, weights_only=True)["identity"]
    wanted = {"loss": "focal", "flip": False, "zoom": 1.2, "colour": 0, "mixed_precision": False, "channels": 3}
    assert {name: made_with[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("big", "--size big: give height and width in pixels, such as 176x240"),
        ("180x240", "--size 180x240: with --depth 4 both sides must be multiples of 16, from 32 to 4096"),
        ("16x32", "multiples of 16, from 32"),
        ("32x8192", "to 4096"),
    ],
)
def test_a_size_that_does_not_go_through_the_network_is_refused(shapes: Path, size: str, words: str) -> None:
    result = command(*options(shapes, "--size", size))
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)


def test_without_pytorch_the_command_says_what_to_install(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = command(*options(shapes))
    assert isinstance(result.exception, BackendUnavailable)
    assert "pip install 'frameloom[train]'" in str(result.exception)


def test_ctrl_c_keeps_the_best_so_far(shapes: Path) -> None:
    small = ("--size", "16x24", "--width", 4, "--depth", 2, "--epochs", 5000, "--batch", 4)
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from tools.cli import main; main()"
    )
    arguments = [str(each) for each in options(shapes, *small)]
    run = [sys.executable, "-c", program, "train", "segment", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("epoch 2/5000"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert any(line.startswith("stopped; the best so far is kept, and --resume goes on") for line in lines)
    assert Zoo.load().spec("mine").path.is_file()


def test_streets_are_learnt(shared: Path, tmp_path: Path) -> None:
    """CamVid, ten pictures: road and sky of two others are found after seconds, in the pictures' own size."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for file in sorted((shared / "data/camvid/train" / part).iterdir())[::31][:12]:
            shutil.copy(file, tmp_path / part)
    settings = SegmentSettings(
        height=48, width=64, channels=8, depth=3, epochs=24, batch=3, learning_rate=1e-2, test_every=12
    )
    classes = shared / "data/camvid/classes.txt"
    lines: list[str] = []
    request = Request(tmp_path / "images", tmp_path / "labels", classes, "streets", tmp_path / "o", settings, ignore=11)
    entry = train_segment(request, progress=lambda done, total: None, say=lines.append)
    assert len(entry.labels) == 11
    scores = dict(part.rsplit(" ", 1) for part in lines[-1].removeprefix("IoU by class: ").split(", "))
    assert float(scores["road"]) > 0.5
    assert float(scores["sky"]) > 0.5
