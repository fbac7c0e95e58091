"""`frameloom train style` from the painting to a model of the zoo, with a judge whose weights are random."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
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
from engines.errors import BackendUnavailable, FrameloomError, ModelError, ModelNotFound
from engines.zoo import Zoo
from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tests.tools.train.style_parts import SMALL, drawn, same_weights, write_vgg
from tools.train import style as style_command
from tools.train.style import Request, read_painting, style, train_style
from tools.train.style_data import read_pictures
from tools.train.style_loop import StyleTraining, to_tensor
from tools.train.style_network import StyleNetwork
from tools.train.vgg import load_vgg16

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painting, photos, and weights of VGG16 up to conv4_1."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "photos").mkdir()
    for number, picture in enumerate(drawn(6)):
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), picture)
    cv2.imwrite(str(folder / "the-wave.png"), drawn(9)[8])
    write_vgg(folder / "vgg.pth")
    return folder


def request_for(given: Path, tmp_path: Path, **changes: Any) -> Request:
    places = given / "the-wave.png", (given / "photos",), "my-style", tmp_path / "out"
    return replace(Request(*places, settings=SMALL, vgg=given / "vgg.pth"), **changes)


def train(request: Request, step: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    lines: list[str] = []
    train_style(request, progress=step, say=lines.append)
    return lines


# ---- what comes out


def test_a_trained_style_is_a_model_of_the_zoo_that_says_what_pytorch_says(given: Path, tmp_path: Path) -> None:
    lines = train(request_for(given, tmp_path))
    assert lines[0] == "learning the style of the-wave.png on cpu, testing on 2 pictures"
    assert [line.split(": J ")[0] for line in lines[1:3]] == ["iteration 3/6", "iteration 6/6"]
    out = tmp_path / "out"
    assert sorted(file.name for file in out.iterdir()) == [
        "checkpoint.pt",
        "curves.png",
        "my-style.onnx",
        "my-style.yaml",
        "preview.png",
    ]
    assert np.asarray(cv2.imread(str(out / "preview.png"))).shape == (128, 128, 3)
    assert cv2.imread(str(out / "curves.png")) is not None

    spec = Zoo.load().spec("my-style", task="stylize")
    assert spec.path == tmp_path / "cache/own-models/my-style.onnx"
    assert spec.path.read_bytes() == (out / "my-style.onnx").read_bytes()
    assert (spec.input.colour, spec.input.multiple) == ("rgb", 4)
    assert str(Zoo.load().entry("my-style").note).startswith("The style of the-wave; 6 iterations, 1 crop(s) of 64 pix")
    assert Zoo.load().spec(out / "my-style.onnx", task="stylize").input == spec.input

    network = network_of(out / "checkpoint.pt")
    pictures = np.random.default_rng(0).integers(0, 256, (1, 100, 148, 3), np.uint8)  # no square, no crop's size
    with torch.no_grad():
        wanted = network(to_tensor(list(pictures))).numpy()
    engine = open_engine(spec, EngineOptions(precision="fp32", input_size=(100, 148)))
    np.testing.assert_allclose(engine.infer(pictures)["styled"], wanted, atol=0.05)
    engine.close()


def network_of(checkpoint: Path) -> StyleNetwork:
    network = StyleNetwork(SMALL.width)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    return network.eval()


def test_stopped_between_two_tests_what_was_tested_is_exported_and_can_be_gone_on_with(
    given: Path, tmp_path: Path
) -> None:
    whole = request_for(given, tmp_path, out=tmp_path / "whole", name="whole")
    train(whole)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    request = request_for(given, tmp_path)
    lines = train(request, stop)
    checkpoint = request.out / "checkpoint.pt"
    assert lines[2] == f"stopped; {checkpoint} is kept, and --resume --replace goes on from it"
    assert "3 iterations" in str(Zoo.load().entry("my-style").note)
    lines = train(replace(request, resume=True, replace=True))
    assert lines[1] == "resumed after iteration 3"
    assert lines[2].startswith("iteration 6/6: ")
    assert same_weights(network_of(checkpoint), network_of(whole.out / "checkpoint.pt"))
    assert (request.out / "my-style.onnx").read_bytes() == (whole.out / "whole.onnx").read_bytes()


def test_a_finished_training_that_is_resumed_is_only_exported_again(given: Path, tmp_path: Path) -> None:
    request = request_for(given, tmp_path)
    train(request)
    exported = (request.out / "my-style.onnx").read_bytes()
    (request.out / "my-style.onnx").unlink()
    shutil.rmtree(tmp_path / "cache")
    steps: list[int] = []
    lines = train(replace(request, resume=True), lambda done, total: steps.append(done))
    assert steps == []
    assert lines[1] == "resumed after iteration 6"
    assert (request.out / "my-style.onnx").read_bytes() == exported
    assert "my-style" in Zoo.load()


def test_stopped_before_the_first_test_there_is_nothing_to_keep(given: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(FrameloomError, match="stopped before the first test: there is nothing to keep"):
        train(request_for(given, tmp_path), stop)
    assert "my-style" not in Zoo.load()


def test_too_little_memory_is_said_in_one_sentence(given: Path, tmp_path: Path) -> None:
    def run_out(done: int, total: int) -> None:
        torch.empty(1 << 50)

    words = "not enough memory for a batch of 1 x 64 x 64: choose a smaller --batch, --size or --style-size"
    with pytest.raises(FrameloomError, match=words):
        train(request_for(given, tmp_path), run_out)


def test_nothing_is_overwritten_unasked(given: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a model of that name comes with Frameloom"):
        train(request_for(given, tmp_path, name="sface"))
    assert not (tmp_path / "out").exists()
    request = request_for(given, tmp_path, settings=replace(SMALL, iterations=1))
    train(request)
    with pytest.raises(ModelError, match="say --replace"):
        train(request)
    with pytest.raises(ConfigError, match=r"checkpoint.pt exists: --resume goes on with it, another --out leaves"):
        train(replace(request, replace=True))


def test_a_style_begins_as_anothers_network(given: Path, tmp_path: Path) -> None:
    first = request_for(given, tmp_path)
    train(first)
    begun = first.out / "checkpoint.pt"
    second = replace(
        first,
        name="second",
        out=tmp_path / "second",
        begin_with=begun,
        settings=replace(SMALL, iterations=1, learning_rate=1e-30),
    )
    train(second)
    assert same_weights(network_of(second.out / "checkpoint.pt"), network_of(begun))


# ---- bad input


def painted(path: Path, picture: Image, *options: int) -> Path:
    cv2.imwrite(str(path), picture, options)
    return path


def test_a_painting_is_made_smaller_but_never_larger(tmp_path: Path) -> None:
    path = painted(tmp_path / "p.png", drawn(1, 100, 150)[0])
    assert read_painting(path, 80).shape == (80, 120, 3)
    assert read_painting(path, 200).shape == (100, 150, 3)


def test_a_painting_that_cannot_be_read_or_is_small_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"--style .* is no picture that can be read"):
        read_painting(tmp_path / "torn.png", 100)
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(ConfigError, match=r"--style .*: there is no such file"):
            read_painting(path, 100)
    with pytest.raises(ConfigError, match=r"small.png is 300x40: a painting of at least 64x64"):
        read_painting(painted(tmp_path / "small.png", drawn(1, 40, 300)[0]), 100)


def test_grey_is_refused_and_sepia_and_a_red_seal_are_not(tmp_path: Path) -> None:
    photo = cv2.cvtColor(drawn(1, 200, 200)[0], cv2.COLOR_BGR2GRAY).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 3, (200, 200, 3))
    noisy = np.clip(photo[..., None] + noise, 0, 255).astype(np.uint8)
    for number, grey in enumerate((photo, noisy)):
        path = painted(tmp_path / f"{number}.jpg", np.asarray(grey, np.uint8), cv2.IMWRITE_JPEG_QUALITY, 90)
        with pytest.raises(
            ConfigError, match=r"jpg is grey, and would take all colours away: give a painting in colour"
        ):
            read_painting(path, 100)
    sepia = (photo[..., None] * np.array([0.9, 0.96, 1.0])).astype(np.uint8)
    seal = np.repeat(photo[..., None], 3, axis=2).astype(np.uint8)
    seal[20:40, 20:40] = 30, 30, 200  # a hundredth
    for name, picture in (("sepia.jpg", sepia), ("seal.jpg", seal)):
        assert read_painting(painted(tmp_path / name, picture), 100).shape == (100, 100, 3)


def test_the_paintings_of_the_documentation_are_accepted(shared: Path) -> None:
    for path in sorted((shared / "data/style").glob("*.jpg")):
        assert min(read_painting(path, 384).shape[:2]) == 384


def test_judges_weights_that_are_nowhere_to_be_had_are_said(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.delenv("FRAMELOOM_MIRROR", raising=False)
    with pytest.raises(ModelNotFound, match="vgg16-hed"):
        train(request_for(given, tmp_path, vgg=None))
    with pytest.raises(ConfigError, match=r"absent.pth holds no weights of VGG16: .*No such file"):
        train(request_for(given, tmp_path, vgg=tmp_path / "absent.pth"))


def test_without_matplotlib_it_is_said_before_the_work(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"matplotlib, which cannot be imported .*pip install"):
        train(request_for(given, tmp_path))
    assert not (tmp_path / "out").exists()


# ---- the command


def command(*arguments: object) -> Any:  # typer does not export the result's type
    app = typer.Typer()
    app.command()(style)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


QUICK = ("--iterations", 2, "--size", 64, "--style-size", 64, "--width", 4, "--full-precision")


def test_the_command_trains_with_the_options_it_is_given(given: Path, tmp_path: Path) -> None:
    painting, out = given / "the-wave.png", tmp_path / "o"
    options = (given / "photos", "--style", painting, "--vgg", given / "vgg.pth", *QUICK, "--layer-weights", "1,2,0,.5")
    result = command(*options, "--name", "mine", "--out", out)
    assert result.exit_code == 0, result.output
    assert "iteration 2/2: J " in result.stdout
    assert "registered as mine: frameloom run --source VIDEO --set stylize.model=mine" in result.stdout
    made_with = torch.load(out / "checkpoint.pt", weights_only=True)["identity"]
    assert (made_with["width"], made_with["style_weights"], made_with["mixed_precision"]) == (4, [1, 2, 0, 0.5], False)

    again = command(*options, "--name", "mine", "--out", out, "--resume", "--replace")
    assert "resumed after iteration 2" in again.stdout
    other = ("--name", "other", "--out", tmp_path / "p", "--begin-with", out / "checkpoint.pt")
    assert command(*options, *other).exit_code == 0
    assert {"mine", "other"} <= {entry.name for entry in Zoo.load()}


@pytest.mark.parametrize("weights", ["1,2,3", "1,2,3,x", "1,2,3,-4", "0,0,0,0", "1,1,1,inf", "1,1,1,nan", ""])
def test_weights_that_are_not_four_numbers_are_refused(weights: str, given: Path) -> None:
    result = command(given, "--style", given / "the-wave.png", "--name", "mine", "--layer-weights", weights)
    assert isinstance(result.exception, ConfigError)
    assert "give 4 numbers from 0 on, not all 0, with commas between them" in str(result.exception)


def test_a_wrong_request_ends_with_code_2_and_one_sentence(given: Path, tmp_path: Path) -> None:
    ramp = np.arange(240, dtype=np.uint8).reshape(1, 80, 3)[..., :1]
    grey = painted(tmp_path / "grey.png", np.ascontiguousarray(np.broadcast_to(ramp, (80, 80, 3))))
    program = [sys.executable, "-m", "tools.cli", "train", "style", str(given / "photos"), "--name", "mine", "--style"]
    root = Path(style_command.__file__).parents[2]
    begun = subprocess.run([*program, str(grey)], capture_output=True, text=True, cwd=root)
    assert begun.returncode == 2
    advice = "is grey, and would take all colours away: give a painting in colour"
    assert begun.stderr == f"frameloom: --style {grey} {advice}\n"


def test_without_pytorch_the_command_says_what_to_install(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = command(given / "photos", "--style", given / "the-wave.png", "--name", "mine")
    assert isinstance(result.exception, BackendUnavailable)
    assert "pip install 'frameloom[train]'" in str(result.exception)


def test_the_command_can_be_listed_without_loading_pytorch() -> None:
    program = "import sys, tools.train.style; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_resuming_from_files_computes_the_curve_of_one_go(given: Path, tmp_path: Path) -> None:
    """As the command reads them: pictures and painting from files make the same identity each time."""

    def begun() -> StyleTraining:
        pictures = read_pictures([given / "photos"], tmp_path, lambda line: None)
        painting = read_painting(given / "the-wave.png", SMALL.style_size)
        return StyleTraining(painting, pictures, load_vgg16(given / "vgg.pth"), SMALL)

    first, second = begun(), begun()
    assert first._identity() == second._identity()
