"""`frameloom visualize`: the patches are those that hold what a channel looks for, of any kind of network."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from engines.errors import FrameloomError
from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools.cli import app
from tools.sheets import CAPTION
from tools.visual.fields import Field
from tools.visual.layers import Layer
from tools.visual.opening import opened
from tools.visual.pictures import fill
from tools.visual.sheet import GAP, LARGEST, MARGIN
from tools.visual.strongest import MOST, Place, Strongest

SIDE, PATTERN, PICTURES = 64, 8, 12
STRIPES = np.tile(np.array([1, -1] * (PATTERN // 2), np.float32), (PATTERN, 1))
PATTERNS = (STRIPES, STRIPES.T)
"""What the two channels look for."""
RAW = ["--colour", "bgr", "--mean", "0", "--std", "1"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


def where(number: int, channel: int) -> tuple[int, int]:
    """Return the top left corner (x, y) of a pattern in a picture."""
    return 4 + 3 * number, (10 if channel == 0 else 40) + number % 5


def picture(number: int, height: int = SIDE, width: int = SIDE) -> Image:
    """Grey, with each channel's pattern once; the contrast rises with the number."""
    pixels = np.full((height, width, 3), 100, np.uint8)
    for channel, pattern in enumerate(PATTERNS):
        x, y = where(number, channel)
        place = pixels[y : y + PATTERN, x : x + PATTERN]
        place += (pattern[..., None] * (10 + 5 * number)).astype(np.int8).view(np.uint8)
    return pixels


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        cv2.imwrite(str(folder / f"{number}.png"), picture(number))
    return folder


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A convolution by the patterns, ReLU, the mean of each map, and a fully connected layer."""
    kernels = np.repeat(np.stack(PATTERNS)[:, None], 3, axis=1) / 3
    weights: dict[str, npt.NDArray[Any]] = {
        "kernels": kernels,
        "full": np.array([[1, 0, 1], [0, 1, 1]], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["picture", "kernels"], ["found"], name="detector"),
        helper.make_node("Relu", ["found"], ["excited"]),
        helper.make_node("ReduceMax", ["excited"], ["best"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["best", "full"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path / "stripes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def visualize(model: Path, pictures: Path, layer: str, tmp_path: Path, *more: str) -> tuple[dict[str, Any], Image]:
    """Run the command; return what it says and draws."""
    out, report = tmp_path / "sheet.png", tmp_path / "sheet.json"
    arguments = ["visualize", "--model", str(model), "--images", str(pictures), "--layer", layer, "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--json", str(report), *RAW, *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    sheet = cv2.imread(str(out))
    assert sheet is not None
    return json.loads(report.read_text()), np.asarray(sheet, np.uint8)


def tile_of(sheet: Image, channel: int, place: int, lines: int = 2) -> Image:
    """Return a patch of one of two channels, as it is drawn."""
    top = lines * CAPTION + MARGIN + CAPTION + place // 3 * (LARGEST + GAP)
    left = MARGIN + channel * (3 * (LARGEST + GAP) + MARGIN) + place % 3 * (LARGEST + GAP)
    return sheet[top : top + LARGEST, left : left + LARGEST]


def test_patches_are_the_patterns_of_nine_pictures_strongest_first(
    network: Path, pictures: Path, tmp_path: Path
) -> None:
    report, sheet = visualize(network, pictures, "excited", tmp_path)
    assert report["field"] == [PATTERN, PATTERN]
    for channel, each in enumerate(report["channels"]):
        numbers = [int(Path(patch["picture"]).stem) for patch in each["patches"]]
        assert numbers == list(range(PICTURES - 1, PICTURES - 1 - MOST, -1))
        for place, (number, patch) in enumerate(zip(numbers, each["patches"], strict=True)):
            x, y = where(number, channel)
            assert patch["box"] == [x, y, x + PATTERN, y + PATTERN]
            assert patch["value"] == pytest.approx((10 + 5 * number) * PATTERN**2)
            shown = picture(number)[y : y + PATTERN, x : x + PATTERN].repeat(LARGEST // PATTERN, 0)
            assert (tile_of(sheet, channel, place) == shown.repeat(LARGEST // PATTERN, 1)).all()


def test_a_large_picture_is_cut_to_the_input_and_boxes_are_in_its_own_pixels(network: Path, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    scaled = cv2.resize(picture(5, SIDE, SIDE), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    wide = np.full((2 * SIDE, 3 * SIDE, 3), 100, np.uint8)
    wide[:, SIDE // 2 : SIDE // 2 + 2 * SIDE] = scaled  # its middle is what fills the input
    cv2.imwrite(str(folder / "wide.png"), wide)
    report, _ = visualize(network, folder, "found", tmp_path)
    x, y = where(5, 1)
    box = report["channels"][1]["patches"][0]["box"]
    assert box == [2 * x + SIDE / 2, 2 * y, 2 * (x + PATTERN) + SIDE / 2, 2 * (y + PATTERN)]


def test_a_layer_without_places_shows_whole_pictures(network: Path, pictures: Path, tmp_path: Path) -> None:
    report, sheet = visualize(network, pictures, "answer", tmp_path)
    assert (report["field"], len(report["channels"])) == (None, 3)
    patches = report["channels"][2]["patches"]
    assert [Path(patch["picture"]).stem for patch in patches] == [str(n) for n in range(11, 2, -1)]
    assert all(patch["box"] == [0, 0, SIDE, SIDE] for patch in patches)
    whole = cv2.resize(picture(11), (LARGEST, LARGEST), interpolation=cv2.INTER_NEAREST)
    assert (tile_of(sheet, 0, 0) == whole).all()


def test_the_most_active_channels_come_first(network: Path, pictures: Path, tmp_path: Path) -> None:
    report, _ = visualize(network, pictures, "answer", tmp_path, "--channels", "1")
    assert [each["channel"] for each in report["channels"]] == [2]  # the sum of both


def test_patches_of_another_size_have_the_same_middle(network: Path, pictures: Path, tmp_path: Path) -> None:
    report, _ = visualize(network, pictures, "found", tmp_path, "--patch", "4", "--limit", "3")
    assert report["pictures"] == 3
    x, y = where(2, 0)
    assert report["channels"][0]["patches"][0]["box"] == [x + 2, y + 2, x + 6, y + 6]


def test_a_layer_is_also_known_by_its_node(network: Path) -> None:
    with opened(network) as (found, _):
        assert found.layer("detector").name == "found"


def test_layers_are_listed_with_what_their_units_see(network: Path) -> None:
    result = CliRunner().invoke(app, ["visualize", "--model", str(network), "--list-layers"], catch_exceptions=False)
    rows = [line.split() for line in result.output.splitlines()]
    assert ["found", "Conv", "2", "57x57", "8x8", "1"] in rows
    assert ["answer", "MatMul", "3", "-", "all", "-"] in rows
    assert "RGB 0..1 was taken" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "excitd"], "stripes has no such layer; did you mean excited"),
        (["--out", "sheet.jpg"], "the sheet is a PNG"),
        (["--out", "nowhere/sheet.png"], "there is no folder nowhere"),
        (["--images", "empty"], "holds no images"),
        (["--images", "text"], "not one of the 1 pictures can be read"),
        (["--images", "grey"], "not one of its channels is excited"),
        (["--model", "nothing.onnx"], "there is no model file nothing.onnx"),
        (["--model", "weights.pth"], "holds weights and not the network that they belong to"),
        (["--model", "text.pt2"], "is nothing that torch.export.save"),
        (["--mean", "a"], "--mean a: write one number"),
    ],
)
def test_a_wrong_request_is_a_sentence(
    arguments: list[str], message: str, network: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    for name in ("empty", "text", "grey"):
        (tmp_path / name).mkdir()
    Path("text/a.jpg").write_text("no picture")
    Path("text.pt2").write_text("no network")
    cv2.imwrite("grey/a.png", np.full((SIDE, SIDE, 3), 100, np.uint8))
    torch.save({"weight": torch.zeros(1)}, "weights.pth")
    given = {"--model": str(network), "--images": str(pictures), "--layer": "excited", "--out": "sheet.png"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    with pytest.raises(FrameloomError, match=message) as caught:
        CliRunner().invoke(app, ["visualize", *sum(given.items(), ())], catch_exceptions=False)
    assert caught.value.request_was_wrong
    assert not Path("sheet.png").exists()


def test_what_is_missing_is_named(network: Path) -> None:
    with pytest.raises(ConfigError, match="--images and --out must be given, or --list-layers"):
        CliRunner().invoke(app, ["visualize", "--model", str(network), "--layer", "a"], catch_exceptions=False)


@pytest.mark.parametrize("kind", ["script", "program"])
def test_a_torch_network_shows_what_its_onnx_file_shows(
    kind: str, network: Path, pictures: Path, tmp_path: Path
) -> None:
    import torch

    convolution = torch.nn.Conv2d(3, 2, PATTERN, bias=False)
    kernels = numpy_helper.to_array(onnx.load(network).graph.initializer[0])
    convolution.weight.data = torch.from_numpy(kernels.copy())
    model = torch.nn.Sequential(convolution, torch.nn.ReLU()).eval()
    path = tmp_path / ("stripes.pt" if kind == "script" else "stripes.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "script":
            torch.jit.save(torch.jit.script(model), path)
        else:
            torch.export.save(torch.export.export(model, (torch.zeros(1, 3, SIDE, SIDE),)), path)
    size = ("--input-size", str(SIDE))
    with opened(path, (SIDE, SIDE)) as (found, _):
        last = found.layers[-1].name
    assert (
        visualize(path, pictures, last, tmp_path, *size)[0]["channels"]
        == visualize(network, pictures, "excited", tmp_path)[0]["channels"]
    )


def test_a_program_of_another_size_says_so(network: Path, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "fixed.pt2"
    program = torch.export.export(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), (torch.ones(1, 3, 4, 4),)
    )
    torch.export.save(program, path)
    with pytest.raises(ConfigError, match=r"cannot be run on a picture of 320x320.*--input-size"), opened(path):
        pass


# ---- the best nine


def strongest_of(channels: int, side: int) -> Strongest:
    layer = Layer("l", "Conv", "", (1, channels, side, side), (None, None, Field("height"), Field("width")))
    return Strongest(layer, (side, side))


def test_the_best_nine_are_those_of_a_sorted_list() -> None:
    generator = np.random.default_rng(3)
    maps = generator.integers(0, 40, (200, 5, 6, 7)).astype(np.float32)  # many are equal
    strongest = Strongest(Layer("l", "Conv", "", (1, 5, 6, 7), (None, None, Field("height"), Field("width"))), (6, 7))
    for number, each in enumerate(maps):
        strongest.add(number, each)
    for channel in range(5):
        best = maps[:, channel].reshape(200, -1)
        order = sorted(range(200), key=lambda number: (-best[number].max(), number))[:MOST]
        expected = [
            Place(best[number].max(), number, *map(int, divmod(int(best[number].argmax()), 7))) for number in order
        ]
        assert strongest.of(channel) == expected


def test_maps_that_point_nowhere_and_values_that_are_no_numbers_do_not_count() -> None:
    strongest = strongest_of(3, 4)
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0] = 7
    maps[1, 2, 1], maps[1, 0, 0] = 5, np.nan
    strongest.add(0, maps)
    assert (strongest.of(0), strongest.of(1), strongest.of(2)) == ([], [Place(5.0, 0, 2, 1)], [])
    assert strongest.most_active(2) == [1]


def test_units_that_see_beyond_the_border_are_left_out_up_to_a_quarter() -> None:
    seen = Field("height", -6, 6, 4)  # units 0 and 1 begin at -6 and -2, 14 and 15 end at 62 and 66
    layer = Layer("l", "Conv", "", (1, 1, 16, 16), (None, None, seen, Field("width", -60, 60, 4)))
    strongest = Strongest(layer, (64, 64))
    maps = np.zeros((1, 16, 16), np.float32)
    maps[0, 1, 8], maps[0, 8, 3], maps[0, 15, 8], maps[0, 2, 4] = 9, 8, 7, 1
    strongest.add(0, maps)
    assert strongest.of(0) == [Place(1.0, 0, 2, 4)]


def test_a_picture_that_fills_the_input_keeps_its_shape() -> None:
    image = np.zeros((50, 200, 3), np.uint8)
    cv2.circle(image, (100, 25), 20, (255, 255, 255), -1)
    filled, filling = fill(image, (100, 100))
    assert filled.shape == (100, 100, 3)
    ys, xs = np.nonzero(filled[..., 0] > 127)
    assert abs((ys.max() - ys.min()) - (xs.max() - xs.min())) <= 1
    assert filling.to_picture((0, 0, 100, 100)) == (75, 0, 125, 50)
