"""Training for real, on pictures of real people: it learns, it can be resumed, and what comes out is a model."""

from __future__ import annotations

import shutil
import signal
import stat
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
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from tools.train import embedding_export
from tools.train.checkpoint import NAME as CHECKPOINT
from tools.train.device import memory_said
from tools.train.embedding import Request, embedding, read_photos, train_embedding
from tools.train.embedding_data import Faces, find_people, left_out, read_aligned, read_faces, split
from tools.train.embedding_loop import Epoch, Training, encode, to_input
from tools.train.embedding_network import FaceNetwork
from tools.train.embedding_settings import TrainingSettings

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 48
REAL = TrainingSettings(size=SIZE, epochs=6, seed=0)
SMALL = TrainingSettings(size=32, dimensions=16, epochs=3, people_per_batch=3, images_per_person=2, held_out=0.4)
NOTHING = 1e-30
"""A learning rate that changes no weight."""
LFW_FACE = slice(69, 181)
"""Rows and columns of the face in LFW's 250 x 250 pictures."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def real_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per person: five people named John, and the 80 of LFW with four or more pictures here."""
    folder = tmp_path_factory.mktemp("people")
    for person in sorted((shared / "data/faces/johns").iterdir()):
        shutil.copytree(person, folder / person.name)
    for person in sorted((shared / "data/faces/lfw/images_deepfunneled").iterdir()):
        if len(images := sorted(person.glob("*.jpg"))) >= 4:
            (folder / person.name).mkdir()
            for path in images:
                picture = cv2.imread(str(path))
                assert picture is not None
                cv2.imwrite(str(folder / person.name / f"{path.stem}.png"), picture[LFW_FACE, LFW_FACE])
    return folder


@pytest.fixture(scope="session")
def real_faces(real_folder: Path) -> Faces:
    return read_faces(find_people(real_folder), SIZE, read_aligned(SIZE), lambda done, total: None)


def made_up(people: int = 8, images: int = 3) -> Faces:
    """People who are patterns of noise, each picture a little different."""
    random = np.random.default_rng(0)
    patterns = np.repeat(random.integers(40, 215, (people, 32, 32, 3)), images, axis=0)
    chips = (patterns + random.integers(-30, 30, patterns.shape)).astype(np.uint8)
    numbers = np.repeat(np.arange(people, dtype=np.int32), images)
    return Faces(chips, numbers, tuple(f"p{number}" for number in range(people)))


@pytest.fixture
def made_up_folder(tmp_path: Path) -> Path:
    faces = made_up()
    for number, (chip, person) in enumerate(zip(faces.chips, faces.people, strict=True)):
        (folder := tmp_path / "people" / faces.names[person]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), chip)
    return tmp_path / "people"


def trained(settings: TrainingSettings, checkpoint: Path | None = None, resume: Path | None = None) -> Training:
    training = Training(*split(made_up(), settings.held_out, settings.seed), settings)
    if resume is not None:
        training.resume(resume)
    training.run(checkpoint, lambda epoch: None)
    return training


def same_weights(a: FaceNetwork, b: FaceNetwork) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def without_times(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in history]


# ---- it learns


def test_strangers_are_told_apart_better_after_training_than_before(real_faces: Faces) -> None:
    learn, test = split(real_faces, REAL.held_out, REAL.seed)
    assert (len(learn.names), len(test.names)) == (68, 17)
    assert not set(learn.names) & set(test.names)
    training = Training(learn, test, REAL)
    training.run(None, lambda epoch: None)
    before, first, *_, last = training.history
    assert last.loss < 0.85 * first.loss
    assert last.active < first.active - 0.03
    after = training.test(training.best_network())
    assert 0.05 < before.separation < 0.2
    assert after.separation > before.separation + 0.15
    assert after.auc > before.auc + 0.04
    assert after.accuracy > before.accuracy + 0.03


def test_the_same_seed_gives_the_same_network_and_another_gives_another() -> None:
    first, second, other = (trained(replace(SMALL, seed=seed)) for seed in (3, 3, 4))
    assert without_times(first.history) == without_times(second.history)
    assert same_weights(first.best_network(), second.best_network())
    assert not same_weights(first.best_network(), other.best_network())


def test_training_leaves_the_random_numbers_of_torch_alone() -> None:
    torch.manual_seed(9)
    wanted = torch.rand(3)
    torch.manual_seed(9)
    trained(SMALL)
    assert torch.equal(torch.rand(3), wanted)


def test_a_resumed_training_equals_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole = trained(SMALL, tmp_path / "whole.pt")

    class Interrupted(Exception):
        pass

    def interrupt(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Interrupted

    half = Training(*split(made_up(), SMALL.held_out, SMALL.seed), SMALL)
    with pytest.raises(Interrupted):
        half.run(tmp_path / "half.pt", interrupt)
    resumed = trained(SMALL, tmp_path / "half.pt", resume=tmp_path / "half.pt")
    assert without_times(resumed.history) == without_times(whole.history)
    assert same_weights(resumed.best_network(), whole.best_network())
    states = [torch.load(tmp_path / f"{name}.pt", weights_only=True)["network"] for name in ("whole", "half")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_training_ends_early_when_nothing_becomes_better() -> None:
    training = trained(replace(SMALL, epochs=40, patience=2, learning_rate=NOTHING))
    assert (training.best.number, training.history[-1].number) == (0, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"margin": 0.3}, r"was made with other margin: 0.2, now 0.3; leave out --resume"),
        ({"epochs": 9}, "other epochs: 3, now 9"),
        ({"held_out": 0.3}, "other held-out: 0.4, now 0.3"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, change: dict[str, float], words: str) -> None:
    trained(SMALL, tmp_path / "c.pt")
    with pytest.raises(ConfigError, match=words):
        trained(replace(SMALL, **change), resume=tmp_path / "c.pt")  # type: ignore[arg-type]


def test_a_checkpoint_of_other_pictures_is_refused(tmp_path: Path) -> None:
    trained(SMALL, tmp_path / "c.pt")
    training = Training(*split(made_up(images=4), SMALL.held_out, SMALL.seed), SMALL)
    with pytest.raises(ConfigError, match=r"was made with other people; leave out --resume"):
        training.resume(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint", "torn"])
def test_what_is_no_checkpoint_is_said(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "c.pt"
    if content == "torn":
        trained(SMALL, path)
        path.write_bytes(path.read_bytes()[:5000])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"there is nothing to resume: .*No such file|is damaged, or another"):
        trained(SMALL, resume=path)


def test_a_checkpoint_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(FrameloomError, match=r"the checkpoint .* cannot be written: No such file"):
        trained(SMALL, tmp_path / "absent" / "c.pt")


def test_a_loss_that_is_no_number_ends_the_training_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(*split(made_up(), 0.4, 0), replace(SMALL, learning_rate=1.0))
    with torch.no_grad():
        next(training._network.parameters()).fill_(torch.nan)
    with pytest.raises(FrameloomError, match="the loss of epoch 1 is nan: choose a smaller --learning-rate"):
        training._learn_epoch(1)


def test_too_large_a_batch_is_said_and_other_failures_are_not_hidden() -> None:
    with (
        pytest.raises(FrameloomError, match="not enough memory for a batch of 3 x 2 pictures: choose a smaller --size"),
        memory_said("3 x 2 pictures", "--size"),
    ):
        torch.empty(1 << 50)
    with pytest.raises(RuntimeError, match=r"inconsistent|must match|multiplied"), memory_said("all", "--size"):
        torch.ones(2, 3) @ torch.ones(2, 3)


# ---- what comes out


@pytest.mark.parametrize("size", [32, 50, 112])
def test_the_network_takes_any_size_and_is_small(size: int) -> None:
    network = FaceNetwork(size, 64, seed=0).eval()
    with torch.no_grad():
        encodings = network(torch.rand(2, 3, size, size))
    assert encodings.shape == (2, 64)
    torch.testing.assert_close(encodings.norm(dim=1), torch.ones(2))
    assert sum(each.numel() for each in network.parameters()) < 2_000_000


def test_settled_statistics_are_those_of_the_pictures_in_training() -> None:
    """A network that is settled on one batch gives for it what it gives in training, up to the unbiased variance."""
    network = FaceNetwork(32, 16, seed=0)
    batch = to_input(made_up().chips)
    network(batch * 9)  # statistics of something else
    network.settle([batch])
    with torch.no_grad():
        wanted = network.train()(batch)
        network.settle([batch])
        given = network.eval()(batch)
    assert float((wanted * given).sum(dim=1).min()) > 0.98


def request_for(folder: Path, tmp_path: Path, **changes: object) -> Request:
    return replace(Request(folder, "my-faces", tmp_path / "out", SMALL), **changes)  # type: ignore[arg-type]


def train(request: Request) -> list[str]:
    lines: list[str] = []
    reader = read_aligned(request.settings.size)
    train_embedding(request, reader, progress=lambda done, total: None, say=lines.append)
    return lines


def test_a_trained_encoder_is_a_model_of_the_zoo_that_says_the_same_as_torch(
    made_up_folder: Path, tmp_path: Path
) -> None:
    lines = train(request_for(made_up_folder, tmp_path))
    assert lines[0] == "learning from 15 pictures of 5 people, testing on 9 of 3 others, on cpu"
    assert [line.split(":")[0] for line in lines[1:5]] == ["untrained", "epoch 1/3", "epoch 2/3", "epoch 3/3"]

    zoo = Zoo.load()
    spec = zoo.spec("my-faces")
    assert spec.path == tmp_path / "cache/own-models/my-faces.onnx"
    assert spec.path.read_bytes() == (tmp_path / "out/my-faces.onnx").read_bytes()
    opened = Zoo.load().spec(tmp_path / "out/my-faces.onnx", task="face-encode")
    assert (opened.name, opened.encoder) == ("my-faces", spec.encoder)
    assert stat.S_IMODE((tmp_path / "out" / CHECKPOINT).stat().st_mode) == 0o600  # it names people
    assert (spec.task, spec.precision, spec.input.height, spec.input.colour) == ("face-encode", "fp32", 32, "rgb")
    assert spec.encoder is not None
    assert (spec.encoder.metric, len(spec.encoder.template)) == ("cosine", 5)
    assert -1 < spec.encoder.verify_threshold <= spec.encoder.identify_threshold < 1.001
    assert "3 held-out people (9 same and 27 different pairs)" in str(zoo.entry("my-faces").accuracy)

    training = Training(*split(made_up(), SMALL.held_out, SMALL.seed), SMALL)
    training.resume(tmp_path / "out" / CHECKPOINT)
    chips = made_up().chips
    wanted = encode(training.best_network(), chips)
    engine = open_engine(spec)
    for batch in (1, 5):
        np.testing.assert_allclose(engine.infer(chips[:batch])["encoding"], wanted[:batch], atol=1e-4)
    engine.close()


def test_a_file_that_says_something_else_than_the_network_is_not_registered(
    made_up_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(network: FaceNetwork, size: int, path: Path, export: object = embedding_export.export) -> None:
        assert callable(export)
        export(FaceNetwork(size, SMALL.dimensions, seed=99).eval(), size, path)

    monkeypatch.setattr(embedding_export, "export", other)
    with pytest.raises(ParityFailed, match=r"is not what was trained: ONNX Runtime differs by .*, allowed 0.001"):
        train(request_for(made_up_folder, tmp_path))
    assert "my-faces" not in Zoo.load()


def test_an_encoder_that_learnt_nothing_is_not_registered(made_up_folder: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, learning_rate=NOTHING, epochs=1)
    with pytest.raises(FrameloomError, match="nothing was learnt: no epoch tells held-out people apart better"):
        train(request_for(made_up_folder, tmp_path, settings=settings))
    assert "my-faces" not in Zoo.load()


def test_a_taken_name_and_an_old_checkpoint_are_said_before_any_work(made_up_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a model of that name comes with Frameloom"):
        train(request_for(made_up_folder, tmp_path, name="sface"))
    assert not (tmp_path / "out").exists()
    train(request_for(made_up_folder, tmp_path))
    with pytest.raises(ModelError, match="say --replace"):
        train(request_for(made_up_folder, tmp_path))
    with pytest.raises(ConfigError, match=r"checkpoint.pt exists: --resume goes on with it, another --out leaves"):
        train(request_for(made_up_folder, tmp_path, replace=True))
    assert "resumed after epoch 3" in train(request_for(made_up_folder, tmp_path, replace=True, resume=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has an NVIDIA GPU")
def test_a_gpu_that_is_not_there_is_said(made_up_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FrameloomError, match="PyTorch sees no CUDA device here"):
        train(request_for(made_up_folder, tmp_path, device="cuda"))


def test_ctrl_c_keeps_the_best_so_far(real_folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from tools.train.embedding import *; import torch; torch.set_num_threads(1)\n"
        f"settings = TrainingSettings(size={SIZE}, epochs=500, patience=500)\n"
        "request = Request(Path(sys.argv[1]), 'my-faces', Path(sys.argv[2]), settings)\n"
        "say = lambda line: print(line, flush=True)\n"
        f"entry = train_embedding(request, read_aligned({SIZE}), progress=lambda done, total: None, say=say)\n"
        "print('registered', entry.name)"
    )
    command = [sys.executable, "-c", program, str(real_folder), str(tmp_path / "out")]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("epoch 2/500"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert "stopped; the best so far is kept" in lines[-3]
    assert lines[-1] == "registered my-faces\n"
    assert Zoo.load().spec("my-faces").path.is_file()
    assert torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)["history"][-1]["number"] == 2


QUICK = ("--epochs", 1, "--size", 32, "--dimensions", 8, "--held-out", 0.4)


def command(*arguments: object) -> Any:  # typer does not export the result's type
    app = typer.Typer()
    app.command()(embedding)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_trains_with_the_options_it_is_given(made_up_folder: Path, tmp_path: Path) -> None:
    options = ("--name", "mine", "--out", tmp_path / "o", *QUICK, "--aligned", "--mining", "batch-hard")
    result = command(made_up_folder, *options)
    assert result.exit_code == 0, result.output
    assert "epoch 1/1: loss" in result.stdout
    assert "registered as mine: AUC" in result.stdout
    made_with = torch.load(tmp_path / "o" / CHECKPOINT, weights_only=True)["identity"]
    assert (made_with["size"], made_with["dimensions"], made_with["mining"]) == (32, 8, "batch-hard")


def test_without_pytorch_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = command(tmp_path, "--name", "mine")
    assert isinstance(result.exception, BackendUnavailable)
    assert "pip install 'frameloom[train]'" in str(result.exception)


def test_the_command_can_be_listed_without_loading_pytorch() -> None:
    program = "import sys, tools.train.embedding; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_faces_are_found_and_aligned_where_the_pictures_are_photos(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    for person in sorted((shared / "data/faces/johns").iterdir())[:4]:
        (tmp_path / "people" / person.name).mkdir(parents=True)
        for path in sorted(person.glob("*.jpg"))[:3]:
            shutil.copy(path, tmp_path / "people" / person.name)
    shutil.copy(shared / "data/style/the_shipwreck.jpg", tmp_path / "people" / "John_Salley")
    people = find_people(tmp_path / "people")
    faces = read_faces(people, 32, read_photos("yunet", 32, EngineOptions()), lambda done, total: None)
    assert faces.chips.shape == (12, 32, 32, 3)
    assert left_out(people, faces) == ["1 of 13 pictures were left out: unreadable, or no face was found"]
    eyes, cheeks = faces.chips[:, 13:17, 8:24].mean(), faces.chips[:, 18:22, 8:24].mean()
    assert eyes < cheeks - 10  # where the template puts them, for all twelve
