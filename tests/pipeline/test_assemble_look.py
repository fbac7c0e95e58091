"""From the settings to the stages of segmentation and stylization, and what the ladder does to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.assemble import SEGMENT_EVERY, assemble
from pipeline.assemble_look import segments
from pipeline.config.load import Override, load_settings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.infer.picture_stylizer import Styling
from pipeline.infer.segment import Segment
from pipeline.infer.stylize import Stylize
from pipeline.runner import Runner
from tools.train.onnx_file import export

SOURCE = "synthetic://64x48@30?frames=5"


class Halves(torch.nn.Module):
    """The left half is foreground."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros_like(picture[:, :1])
        mask[..., : mask.shape[-1] // 2] = 1.0
        return mask + 0 * picture[:, :1]


class Negative(torch.nn.Module):
    """A style: light is dark."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return 255 - picture


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    for name, network in (("halves", Halves()), ("negative", Negative())):
        size = {0: "N", 2: "H", 3: "W"}
        file, axes = folder / f"{name}.onnx", ("picture", "answer")
        export(network, torch.zeros(1, 3, 32, 32), file, names=axes, dynamic=dict.fromkeys(axes, size))
    return {name: str(folder / f"{name}.onnx") for name in ("halves", "negative")}


def settings(**values: object) -> Settings:
    values = {"sources": [SOURCE], "detect__enabled": False, **values}
    overrides = [Override(key.replace("__", "."), value, key) for key, value in values.items()]
    return load_settings(None, overrides).settings


def names(runner: Runner) -> list[str]:
    return [stage.name for stage in runner.stages]


def test_nothing_is_segmented_or_stylized_unasked() -> None:
    assert names(assemble(settings())) == []


def test_stages_stand_where_they_may_see_what_they_need(models: dict[str, str], tmp_path: Path) -> None:
    """Segmentation before people are hidden, all that makes pictures after it, boxes on top."""
    wanted = settings(
        segment={"model": models["halves"], "input_size": 32},
        stylize__model=models["negative"],
        blur__enabled=True,
        faces__finder="centerface",
        sinks__record__path=str(tmp_path / "out.mp4"),
    )
    assert names(assemble(wanted)) == ["find_faces", "segment", "blur", "stylize", "effect", "render"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"segment": True}, True),
        ({"segment__effect": "none"}, True),
        ({"stylize__where": "inside"}, True),
        ({"stylize__where": "everywhere"}, False),
        ({"stylize__enabled": False, "stylize__where": "outside"}, False),
    ],
)
def test_pictures_are_segmented_where_that_is_asked_for_or_needed(values: dict[str, object], expected: bool) -> None:
    assert segments(settings(**values)) is expected


def test_a_style_that_needs_a_map_and_may_have_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="outside needs segmentation, which is off"):
        segments(settings(stylize__where="outside", segment__enabled=False))


def test_a_map_that_only_a_style_needs_has_no_effect_of_its_own(models: dict[str, str]) -> None:
    wanted = settings(
        segment={"enabled": None, "model": models["halves"], "input_size": 32},
        stylize__model=models["negative"],
        stylize__where="inside",
    )
    assert names(assemble(wanted)) == ["segment", "stylize"]


def test_a_style_is_seen_inside_the_map_only(models: dict[str, str]) -> None:
    wanted = settings(
        segment={"enabled": None, "model": models["halves"], "input_size": 32, "edges": False, "smooth_s": 0},
        stylize={"model": models["negative"], "where": "inside", "stable": 0, "short_side": 64},
    )
    runner = assemble(wanted)
    with pytest.MonkeyPatch.context() as patch:
        seen: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        stylize = next(stage for stage in runner.stages if isinstance(stage, Stylize))
        collect = stylize.collect

        def watch(frame: Frame, ticket: Styling) -> None:
            collect(frame, ticket)
            seen.append((frame.image.astype(int), frame.output.bgr.astype(int)))

        patch.setattr(stylize, "collect", watch)
        runner.start()
        runner.wait()
    assert runner.error is None
    assert len(seen) == 5
    for before, after in seen:
        assert np.abs(after[:, 36:] - before[:, 36:]).max() <= 2
        assert np.abs(after[:, :28] - (255 - before[:, :28])).mean() < 12


def test_the_ladder_has_only_steps_that_make_a_difference(models: dict[str, str]) -> None:
    ladder = ["stylize", "segment", "detect_every_2"]
    latency = {"objective_ms": 100, "ladder": ladder}
    both = settings(
        segment={"model": models["halves"], "input_size": 32}, stylize__model=models["negative"], latency=latency
    )
    runner = assemble(both)
    segment = next(stage for stage in runner.stages if isinstance(stage, Segment))
    stylize = next(stage for stage in runner.stages if isinstance(stage, Stylize))
    governor = runner._wiring._governor
    assert governor is not None
    assert [rung.name for rung in governor._rungs] == ["stylize", "segment"]

    def after(*rungs: str) -> tuple[bool, int]:
        governor._apply(frozenset(rungs))
        return stylize.is_off, segment.every

    assert after("stylize") == (True, 1)
    assert after("stylize", "segment") == (True, SEGMENT_EVERY)
    assert after() == (False, 1)
    assert assemble(settings(latency=latency))._wiring._governor is None
