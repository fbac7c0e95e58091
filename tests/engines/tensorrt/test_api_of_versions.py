"""All of TensorRT's API that is used here is there in each version that `engines.tensorrt.flavour` speaks of.

What is used is read from the source: `trt.Class.MEMBER`, and what is asked of objects whose class is in `OBJECTS`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import engines.tensorrt
from engines.tensorrt.flavour import NEEDED, OLDEST
from engines.tensorrt.loaded_plan import DTYPES
from tests.engines.tensorrt.real_api import RTX, VERSIONS, WHEELS, Api, api_of

OBJECTS = {
    "build.py": {
        "builder": "Builder",
        "cache": "ITimingCache",
        "config": "IBuilderConfig",
        "error": "ParserError",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "profile": "IOptimizationProfile",
        "value": "ITensor",
    },
    "flavour.py": {
        "context": "IExecutionContext",
        "engine": "ICudaEngine",
        "flags": "NetworkDefinitionCreationFlag",
    },
    "loaded_plan.py": {
        "config": "IRuntimeConfig",
        "self._compiled": "IRuntimeCache",
        "self._engine": "ICudaEngine",
        "self._runtime": "Runtime",
    },
    "log.py": {"base": "ILogger"},
    "plan_context.py": {"self._context": "IExecutionContext"},
}
"""Per file, the expressions that are TensorRT's objects, and their classes."""
EVERYDAY = frozenset(
    {
        "FLOAT",
        "FLOAT16",
        "allocate",
        "append",
        "dtype",
        "format",
        "itemsize",
        "name",
        "node",
        "pop",
        "precision",
        "read",
    }
    | {"release", "shape", "size", "start", "type", "value", "write"}
)
"""Names that TensorRT has, and half of everything else: these alone do not show what an object is."""
BY_NAME = {
    *(f"DataType.{name}" for name in DTYPES),
    *(f"ILogger.Severity.{name}" for name in ("ERROR", "WARNING", "INFO")),
    *(name for name in NEEDED if not name.startswith("_")),
}
"""What is asked for by a name that is no constant there."""

SINCE_10_16 = ("10.16.1.11", "11.4.0.106", RTX)
ONLY_IN = {
    "BuilderFlag.REQUIRE_USER_ALLOCATION": (RTX,),
    "ComputeCapability": (RTX,),
    "DynamicShapesKernelSpecializationStrategy": (RTX,),
    "DynamicShapesKernelSpecializationStrategy.EAGER": (RTX,),
    "EngineInvalidityDiagnostics": (RTX,),
    "EngineValidity": (RTX,),
    "EngineValidity.INVALID": (RTX,),
    "EngineValidity.SUBOPTIMAL": (RTX,),
    "IBuilderConfig.num_compute_capabilities": (RTX,),
    "IBuilderConfig.set_compute_capability": (RTX,),
    "ICudaEngine.create_runtime_config": SINCE_10_16,
    "ICudaEngine.device_memory_size": ("10.0.1", "10.16.1.11"),
    "ICudaEngine.device_memory_size_v2": SINCE_10_16,
    "IExecutionContext.is_stream_capturable": (RTX,),
    "IExecutionContext.set_device_memory": SINCE_10_16,
    "IRuntimeCache.deserialize": (RTX,),
    "IRuntimeCache.serialize": (RTX,),
    "IRuntimeConfig.create_runtime_cache": (RTX,),
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy": (RTX,),
    "IRuntimeConfig.set_execution_context_allocation_strategy": SINCE_10_16,
    "IRuntimeConfig.set_runtime_cache": (RTX,),
    "Runtime.get_engine_validity": (RTX,),
}
"""The versions that have what not all have: as the table of `engines.tensorrt.flavour` says."""


@dataclass(frozen=True)
class Use:
    """A place where something of TensorRT is used."""

    name: str
    """`Class.attribute`, or a name of the module."""
    place: str
    is_set: bool = False
    arguments: int | None = None
    """How many are given by position; None: it is not called, or with `*`."""
    keywords: tuple[str, ...] = ()


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(Path(engines.tensorrt.__path__[0]).glob("*.py")):
        yield path.name, ast.parse(path.read_text())


def named(node: ast.expr, file: str) -> str | None:
    """Return what an expression is in TensorRT: `` for the module, `BuilderFlag`, `Builder.create_network`."""
    text = ast.unparse(node)
    if text == "trt" or text.endswith((".trt", "._trt")):
        return ""
    if owner := OBJECTS.get(file, {}).get(text):
        return owner
    if isinstance(node, ast.Attribute) and (base := named(node.value, file)) is not None:
        return f"{base}.{node.attr}".lstrip(".")
    return None


def used(node: ast.expr, file: str) -> str | None:
    """Return what of TensorRT an expression asks for; None: nothing, it is one of its objects, or Python's own."""
    text = ast.unparse(node)
    return None if text in OBJECTS.get(file, {}) or "__" in text else named(node, file)


def asked_by_name(node: ast.AST) -> tuple[ast.expr, str] | None:
    """Return object and name of `hasattr(object, "name")` and `getattr(object, "name", ...)`."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr"):
        owner, name = node.args[:2]
        if isinstance(name, ast.Constant) and not str(name.value).startswith("__"):
            return owner, str(name.value)
    return None


@cache
def uses() -> tuple[Use, ...]:
    """Everything that is used, and where."""
    return tuple(use for file, tree in sources() for node in ast.walk(tree) for use in _uses_of(node, file))


def _uses_of(node: ast.AST, file: str) -> Iterator[Use]:
    place = f"{file}:{getattr(node, 'lineno', 0)}"
    if (asked := asked_by_name(node)) and (owner := named(asked[0], file)) is not None:
        yield Use(f"{owner}.{asked[1]}".lstrip("."), place)
    if isinstance(node, ast.Attribute) and (name := used(node, file)):
        yield Use(name, place, is_set=isinstance(node.ctx, ast.Store))
    if isinstance(node, ast.Call) and (name := used(node.func, file)):
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg)
        yield Use(name, place, False, None if starred else len(node.args), keywords)
    if isinstance(node, ast.ClassDef) and node.bases and (name := named(node.bases[0], file)):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                known = name != "ILogger" or method.name == "log"  # what the logger has beside is ours
                yield from [Use(f"{name}.{method.name}", place)] if known else []


@pytest.fixture(scope="session")
def apis() -> dict[str, Api]:
    """What was read so far."""
    return {}


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def api(version: str, apis: dict[str, Api], tmp_path_factory: pytest.TempPathFactory) -> Api:
    if version not in apis:
        apis[version] = api_of(version, tmp_path_factory.mktemp("bindings"))
    return apis[version]


def has(version: str, name: str) -> bool:
    return version in ONLY_IN.get(name, VERSIONS)


def test_what_is_used_is_there_where_it_should_be_and_only_there(version: str, api: Api) -> None:
    places = {**dict.fromkeys(BY_NAME, "by name"), **{use.name: use.place for use in uses()}}
    assert {name: place for name, place in places.items() if has(version, name) and name not in api} == {}
    assert {name for name in places if not has(version, name) and name in api} == set()


def test_what_is_set_can_be_set(version: str, api: Api) -> None:
    set_ = {use.name for use in uses() if use.is_set}
    assert "IBuilderConfig.progress_monitor" in set_
    assert {name for name in set_ if has(version, name) and not api[name]["settable"]} == set()


def test_what_is_called_takes_what_it_is_given(version: str, api: Api) -> None:
    calls = [use for use in uses() if (use.arguments is not None or use.keywords) and has(version, use.name)]
    assert len(calls) > 25
    assert [call for call in calls if not any(takes(call, each) for each in signatures(call.name, api))] == []


def signatures(name: str, api: Api) -> list[tuple[list[str], int]]:
    """Return the parameters' names of each overload, and how many of them must be given; without `self`."""
    is_class = f"{name}.__init__" in api and name[0].isupper() and "." not in name
    called = "__init__" if is_class else name.rpartition(".")[2]
    lines = re.findall(rf"^(?:\d+\. )?{called}\((.*)\) ->", api[f"{name}.__init__" if is_class else name]["doc"], re.M)
    return [_parameters(line) for line in lines if line != "*args, **kwargs"]


def _parameters(line: str) -> tuple[list[str], int]:
    depth, parts = 0, [""]
    for letter in line:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    own = [part.strip() for part in parts[1:]]
    return [part.split(":")[0] for part in own], sum(" = " not in part for part in own)


def takes(call: Use, signature: tuple[list[str], int]) -> bool:
    names, needed = signature
    if not set(call.keywords) <= set(names):
        return False
    return call.arguments is None or needed <= call.arguments + len(call.keywords) <= len(names)


def test_the_table_of_objects_is_complete(version: str, api: Api) -> None:
    """Whoever has an attribute with one of TensorRT's names is in the table, and all in the table are used."""
    theirs = {name.rpartition(".")[2] for name in api if "." in name} - EVERYDAY
    unknown, seen = [], set()
    for file, tree in sources():
        for node in ast.walk(tree):
            asked = asked_by_name(node)
            if asked is None and not isinstance(node, ast.Attribute):
                continue
            owner, attribute = asked or (node.value, node.attr)  # type: ignore[attr-defined]
            if named(owner, file) is not None:
                seen.add((file, ast.unparse(owner)))
            elif attribute in theirs:
                unknown.append(f"{file}: {ast.unparse(node)}")
    assert unknown == []
    assert {(file, name) for file, names in OBJECTS.items() for name in names} - seen == set()


def test_the_table_of_versions_is_about_what_is_used() -> None:
    assert set(ONLY_IN) - {use.name for use in uses()} - BY_NAME == set()


def test_memory_is_given_as_each_version_takes_it(version: str, api: Api) -> None:
    """`PlanContext.use` calls a method that takes a size, too, or sets an attribute."""
    if has(version, "IExecutionContext.set_device_memory"):
        assert signatures("IExecutionContext.set_device_memory", api) == [(["memory", "size"], 2)]
    else:
        assert api["IExecutionContext.device_memory"]["settable"]


def test_the_versions_are_those_that_are_claimed() -> None:
    assert [version.split(".")[0] for version in WHEELS] == [str(OLDEST), "10", "11"]
