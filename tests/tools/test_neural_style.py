"""`frameloom style`: real pictures in, a real picture out; what does not do is said before the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch
from typer.testing import CliRunner

from engines.errors import FrameloomError
from pipeline.arrays import Image
from pipeline.errors import ConfigError, SinkError
from tools.cli import app
from tools.neural_style import IF_GREY, Request, paint
from tools.style.memory import check_memory, needed_bytes
from tools.style.pictures import (
    check_output,
    read_content,
    read_painting,
    with_alpha_of,
    with_colours_of,
    write_picture,
)
from tools.style.settings import PaintSettings, level_sizes
from tools.train.vgg import BLOCKS, LAYERS

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = PaintSettings(
    size=48,
    levels=1,
    iterations=3,
    content_layers=("conv2_1",),
    style_layers=("conv1_1", "conv2_1"),
    layer_weights=(1.0, 1.0),
)
"""What the program does is the same with two layers, which a test has the time for."""


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A picture of 96 x 64."""
    slope = np.linspace(30, 220, 96).astype(np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    return write(tmp_path / "content.png", cv2.circle(np.ascontiguousarray(slope), (40, 30), 18, (30, 60, 220), -1))


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    """Stripes of 100 x 80, blue and yellow."""
    stripes = (np.arange(80)[:, None] + np.arange(100)) // 5 % 2
    colours = np.where(stripes[..., None] == 0, np.array([160, 60, 20]), np.array([40, 200, 230]))
    return write(tmp_path / "painting.png", colours.astype(np.uint8))


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of torchvision's form with weights drawn by chance."""
    state: dict[str, torch.Tensor] = {}
    chance, number, before = torch.Generator().manual_seed(0), 0, 3
    for name, width in zip(LAYERS, (width for block in BLOCKS for width in block), strict=True):
        number += 1 if name.endswith("_1") and name != "conv1_1" else 0
        state[f"features.{number}.weight"] = (
            torch.randn(width, before, 3, 3, generator=chance) * (2 / (9 * before)) ** 0.5
        )
        state[f"features.{number}.bias"] = torch.zeros(width)
        number, before = number + 2, width
    path = tmp_path_factory.mktemp("judge") / "vgg16.pth"
    torch.save(state, path)
    return path


def write(path: Path, picture: npt.NDArray[Any]) -> Path:
    assert cv2.imwrite(str(path), picture)
    return path


def read(path: Path) -> Image:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def paint_quietly(request: Request) -> list[str]:
    lines: list[str] = []
    paint(request, progress=lambda done, total, losses: None, say=lines.append)
    return lines


@pytest.mark.parametrize("name", ["result.png", "result.JPG"])
def test_a_picture_is_painted(tmp_path: Path, content: Path, painting: Path, judge: Path, name: str) -> None:
    told: list[tuple[int, int, str]] = []
    request = Request(content, painting, tmp_path / name, QUICK, vgg=judge, every=2, previews=tmp_path / "all")
    lines: list[str] = []
    paint(request, progress=lambda *each: told.append(each), say=lines.append)
    assert read(tmp_path / name).shape == (32, 48, 3)
    assert [done for done, _, _ in told] == [0, 1, 2, 3]
    assert told[-1][1] == 3
    assert "style" in told[-1][2]
    assert lines[0] == "painting content.png in the style of painting.png: 48x32"
    assert "2 at level 1 of 1: J " in lines[1]
    assert lines[-1].startswith(f"wrote {tmp_path / name}, J ")
    assert [each.name for each in (tmp_path / "all").iterdir()] == ["1_00002.png"]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["all", "content.png", "painting.png", name])


def test_colours_are_kept_when_asked_for(tmp_path: Path, content: Path, painting: Path, judge: Path) -> None:
    request = Request(content, painting, tmp_path / "r.png", QUICK, keep_colours=True, vgg=judge)
    paint_quietly(request)
    before = cv2.cvtColor(cv2.resize(read(content), (48, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2YCrCb)
    after = cv2.cvtColor(read(tmp_path / "r.png"), cv2.COLOR_BGR2YCrCb)
    chroma = np.abs(after[..., 1:].astype(int) - before[..., 1:]).mean()
    assert chroma < 4  # brightness beyond what a colour can have is cut off
    assert np.abs(after[..., 0].astype(int) - before[..., 0]).mean() > 3 * chroma


def test_brightness_alone_is_taken_over() -> None:
    grey, red = np.full((2, 2, 3), 100, np.uint8), np.full((4, 4, 3), (60, 60, 120), np.uint8)
    mixed = with_colours_of(grey, red)
    as_luma = cv2.cvtColor(mixed, cv2.COLOR_BGR2YCrCb)[0, 0].astype(int)
    assert abs(as_luma[0] - 100) <= 1
    assert np.abs(as_luma[1:] - cv2.cvtColor(red, cv2.COLOR_BGR2YCrCb)[0, 0, 1:]).max() <= 1


def test_transparency_is_kept_in_png_and_becomes_white_in_jpeg(tmp_path: Path, content: Path) -> None:
    picture = read(content)
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:, :48] = 0
    path = write(tmp_path / "transparent.png", np.dstack([picture, alpha]))
    seen = read_content(path)
    assert seen.alpha is not None
    assert np.array_equal(seen.alpha, alpha)
    assert (seen.picture[:, :48] == 255).all()
    assert np.array_equal(seen.picture[:, 48:], picture[:, 48:])
    painted = np.full((32, 48, 3), 90, np.uint8)
    assert np.array_equal(with_alpha_of(painted, seen, Path("a.png"))[..., 3], alpha[::2, ::2])
    flat = with_alpha_of(painted, seen, Path("a.jpg"))
    assert flat.shape == (32, 48, 3)
    assert (flat[:, :24] == 255).all()
    assert (flat[:, 24:] == 90).all()


def test_an_opaque_alpha_channel_is_none(tmp_path: Path, content: Path) -> None:
    picture = read(content)
    opaque = np.full(picture.shape[:2], 255, np.uint8)
    assert read_content(write(tmp_path / "opaque.png", np.dstack([picture, opaque]))).alpha is None


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_a_channel_are_taken_with_eight(tmp_path: Path, content: Path, channels: int) -> None:
    picture = read(content)
    deep = np.dstack([picture, np.full(picture.shape[:2], 128, np.uint8)])[..., :channels].astype(np.uint16) * 257
    seen = read_content(write(tmp_path / "deep.png", deep))
    assert seen.picture.dtype == np.uint8
    assert seen.picture.shape == (64, 96, 3)
    if channels < 4:
        wanted = picture if channels == 3 else picture[..., :1].repeat(3, 2)
        assert np.abs(seen.picture.astype(int) - wanted).max() <= 1
    else:
        assert seen.alpha is not None
        assert (seen.alpha == 128).all()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def make_text(path: Path) -> None:
    path.write_text("no picture")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [damage, make_text, make_empty, make_folder, Path.unlink])
def test_a_file_that_is_no_picture_is_refused(content: Path, spoil: Callable[[Path], None]) -> None:
    spoil(content)
    with pytest.raises(ConfigError, match=r"--content .*content\.png(:| is)"):
        read_content(content)
    with pytest.raises(ConfigError, match=r"--style .*content\.png(:| is)"):
        read_painting(content, if_grey=IF_GREY)


def test_a_small_painting_is_refused_with_the_least_size(tmp_path: Path) -> None:
    path = write(tmp_path / "small.png", np.random.default_rng(0).integers(0, 255, (300, 63, 3)).astype(np.uint8))
    with pytest.raises(ConfigError, match="is 63x300: a painting of at least 64x64 is needed"):
        read_painting(path, if_grey=IF_GREY)


def test_a_grey_painting_is_refused_unless_only_its_brightness_is_wanted(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (80, 90, 1)).astype(np.uint8)
    for name, picture in (("one.png", grey), ("three.png", grey.repeat(3, 2))):
        path = write(tmp_path / name, picture)
        with pytest.raises(ConfigError, match="is grey, and would take all colours away: add --keep-colours"):
            read_painting(path, if_grey=IF_GREY)
        assert read_painting(path, if_grey=None).shape == (80, 90, 3)


def test_a_painting_of_one_colour_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "blue.png", np.full((80, 80, 3), (200, 40, 30), np.uint8))
    with pytest.raises(ConfigError, match="of one colour all over"):
        read_painting(path, if_grey=None)


def test_what_goes_in_is_never_written_over(tmp_path: Path, content: Path, painting: Path) -> None:
    (tmp_path / "link.png").symlink_to(content)
    (tmp_path / "hard.png").hardlink_to(painting)
    for name in ("content.png", "painting.png", "link.png", "hard.png"):
        with pytest.raises(ConfigError, match=f"{name} is a picture that goes in"):
            check_output(tmp_path / name, content, painting)


@pytest.mark.parametrize(
    ("name", "reason"), [("a.gif", "end the name in"), ("a", "end the name in"), ("no/a.png", "no folder")]
)
def test_a_result_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, content: Path, painting: Path, name: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        paint_quietly(Request(content, painting, tmp_path / name))


def test_a_result_is_whole_or_as_it_was(disk_of: Callable[[str], Path]) -> None:
    place = disk_of("64k")
    write_picture(place / "r.png", np.zeros((16, 16, 3), np.uint8))
    before = (place / "r.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    with pytest.raises(SinkError, match="cannot be written: No space left"):
        write_picture(place / "r.png", noise)
    assert (place / "r.png").read_bytes() == before
    assert [each.name for each in place.iterdir()] == ["r.png"]


def test_too_large_a_picture_is_refused_with_the_size_that_fits() -> None:
    settings = replace(PaintSettings(), size=8000)
    free = 4_000_000_000
    with pytest.raises(
        ConfigError, match=r"8000x4500 needs about .* GB of memory, and 4\.0 GB are free: --size (\d+) would fit"
    ) as refused:
        check_memory(16000, 9000, settings, free)
    fits = int(str(refused.value).split("--size ")[1].split()[0])
    check_memory(16000, 9000, replace(settings, size=fits), free)
    with pytest.raises(ConfigError, match=f"--size {fits} would fit"):
        check_memory(16000, 9000, replace(settings, size=fits + 64), free)
    with pytest.raises(ConfigError, match="no size would fit"):
        check_memory(16000, 9000, settings, 1_000_000)


def test_a_picture_that_is_not_enlarged_needs_no_more_than_it_has() -> None:
    check_memory(640, 360, replace(PaintSettings(), size=8000), 2_000_000_000)


def test_memory_is_enough_for_what_painting_takes() -> None:
    """The most that a process ever has, above what it had when it was done with a tiny picture."""
    program = textwrap.dedent("""
        from pathlib import Path
        import numpy as np
        import torch
        from tools.style.painter import Painter
        from tools.style.settings import PaintSettings
        from tools.train.vgg import BLOCKS, Vgg16

        widths = [width for block in BLOCKS for width in block]
        weights = [(torch.zeros(each, before, 3, 3), torch.zeros(each)) for before, each in zip((3, *widths), widths)]
        vgg = Vgg16(weights, from_caffe=True)

        def most(side):
            picture = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
            settings = PaintSettings(levels=1, iterations=1, optimiser="adam")
            Painter(picture, picture[:64, :64], vgg, settings).run(lambda moment: None)
            # not ru_maxrss: a process begins with that of the one it was forked from
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            return int(status["VmHWM"].split()[0]) * 1024

        print(-most(64) + most(256))
    """)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    estimated = needed_bytes(256, 256, replace(PaintSettings(), optimiser="adam"))
    assert estimated / 2 < int(run.stdout) < estimated


def test_levels_double_and_never_exceed_the_content() -> None:
    assert level_sizes(1280, 720, PaintSettings()) == [(512, 288)]
    assert level_sizes(1280, 720, replace(PaintSettings(), size=2000)) == [(640, 360), (1280, 720)]
    assert level_sizes(4000, 3000, replace(PaintSettings(), size=2048)) == [(512, 384), (1024, 768), (2048, 1536)]
    assert level_sizes(300, 200, PaintSettings()) == [(300, 200)]
    assert level_sizes(100, 1000, replace(PaintSettings(), levels=3)) == [(13, 128), (26, 256), (51, 512)]
    assert [PaintSettings().iterations_at(level) for level in (0, 1, 2)] == [
        PaintSettings().iterations,
        PaintSettings().iterations // 2,
        PaintSettings().iterations // 4,
    ]


def test_too_narrow_a_picture_is_refused(tmp_path: Path, painting: Path) -> None:
    path = write(tmp_path / "narrow.png", np.zeros((20, 2000, 3), np.uint8))
    with pytest.raises(ConfigError, match="would be painted with 512x5 pixels: at least 32 each way"):
        paint_quietly(Request(path, painting, tmp_path / "r.png"))


def test_j_that_is_not_finite_keeps_the_last_good_picture(
    tmp_path: Path, content: Path, painting: Path, judge: Path
) -> None:
    settings = replace(QUICK, optimiser="adam", learning_rate=1e20)
    with pytest.raises(
        FrameloomError,
        match=r"J is .* at iteration 1 of level 1 of 1: try a smaller --learning-rate; the last good picture is .*r\.",
    ) as failed:
        paint_quietly(Request(content, painting, tmp_path / "r.png", settings, vgg=judge))
    assert not failed.value.request_was_wrong
    assert read(tmp_path / "r.png").shape == (32, 48, 3)


def test_ctrl_c_keeps_the_picture_and_resume_ends_with_the_same(
    tmp_path: Path, content: Path, painting: Path, judge: Path
) -> None:
    """The real program, interrupted by a signal."""
    out, whole = tmp_path / "stopped.png", tmp_path / "whole.png"
    command = [sys.executable, "-m", "tools.cli", "style", "--content", str(content), "--style", str(painting)]
    command += ["--out", str(out), "--vgg", str(judge), "--size", "48", "--levels", "1", "--device", "cpu"]
    command += [
        "--iterations",
        "30",
        "--every",
        "2",
        "--content-layers",
        "conv2_1",
        "--style-layers",
        "conv1_1,conv2_1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if " at level 1" in line:
                running.send_signal(signal.SIGINT)
                break
        said = running.stdout.read()
    assert running.returncode == 0
    assert "--resume goes on" in said
    assert read(out).shape == (32, 48, 3)

    settings = replace(QUICK, iterations=30)
    request = Request(content, painting, out, settings, device="cpu", vgg=judge)
    with pytest.raises(
        ConfigError, match=r"stopped\.png\.checkpoint is of a painting that was stopped: --resume goes on"
    ):
        paint_quietly(request)
    assert "resumed after" in paint_quietly(replace(request, resume=True))[1]
    paint_quietly(replace(request, out=whole))
    assert np.array_equal(read(out), read(whole))
    assert not list(tmp_path.glob("*.checkpoint"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--style-layers", "conv1_1,conv9_9"], "VGG16 has no layer conv9_9: it has conv1_1,"),
        (["--style-layers", ","], "name layers like conv4_2"),
        (["--content-layers", "conv4_2,conv4_2"], "each once"),
        (["--layer-weights", "1,2"], "give 5 numbers from 0 on"),
        (["--layer-weights", "1,2,3,4,x"], "give 5 numbers from 0 on"),
        (["--layer-weights", "0,0,0,0,0"], "not all 0"),
        (["--resume"], "there is nothing to resume"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, content: Path, painting: Path, judge: Path, options: list[str], reason: str
) -> None:
    command = ["style", "--content", str(content), "--style", str(painting), "--out", str(tmp_path / "r.png")]
    result = CliRunner().invoke(app, [*command, "--vgg", str(judge), *options])
    assert isinstance(result.exception, FrameloomError)
    assert result.exception.request_was_wrong
    assert reason in str(result.exception)
    assert not (tmp_path / "r.png").exists()
