"""From the engine's settings to how engines are opened."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from engines.engine import EngineOptions
from pipeline.assemble_engine import engine_options
from pipeline.config.input_settings import EngineSettings


def test_every_key_reaches_the_engine() -> None:
    values: dict[str, Any] = {
        "backend": "tensorrt",
        "precision": "fp32",
        "device": "cuda:1",
        "threads": 2,
        "requests": 3,
        "batch": 4,
        "cuda": "pycuda",
        "cuda_graph": False,
    }
    assert set(values) == set(EngineSettings.model_fields)
    options = engine_options(EngineSettings(**values), (320, 640))
    assert {name: getattr(options, name) for name in values} == values
    assert options.input_size == (320, 640)


def test_the_defaults_of_settings_and_options_are_the_same() -> None:
    assert engine_options(EngineSettings()) == EngineOptions()
    assert {field.name for field in fields(EngineOptions)} == {*EngineSettings.model_fields, "input_size", "candidates"}
