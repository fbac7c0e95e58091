"""`frameloom engines list|show|clean`: the compiled engines of this machine, and whether they can still be used."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engines.cache.engine_cache import EngineCache, Listed
from engines.cache.folder import MANIFEST, PLAN, Damaged
from engines.cache.manifest import CALIBRATED
from engines.int8.circumstances import CPU_BACKENDS
from pipeline.errors import ConfigError
from pipeline.gallery.words import counted
from tools.engines.facts import facts
from tools.engines.present import present
from tools.engines.words import age, made_for, mebibytes, shape_words
from tools.terminal import say

if TYPE_CHECKING:
    from engines.cache.manifest import Manifest

STYLES = {"valid": "green", "unverified": "yellow", "elsewhere": "dim"}
INDENT = 15
"""Columns of the names of facts."""
BACKENDS = ("tensorrt", "tensorrt-rtx", CALIBRATED, *CPU_BACKENDS)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_engines(json: JsonOption = False) -> None:
    """List what is compiled: of which model, for which machine, how old, and whether it can be used here."""
    cache = EngineCache()
    found = _entries(cache)
    if json:
        Console().print_json(data=[_as_json(each) for each in found])
        return
    if found:
        Console(highlight=False).print(_table(found))
    total = sum(each.bytes for each in found)
    say(f"{counted(len(found), 'engine')}, {mebibytes(total)} in {cache.folder}")


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Of the engine, or of a model: all its engines.")],
    json: JsonOption = False,
) -> None:
    """Print everything that is known of an engine, with how it compares with its model file."""
    found = _matching(name, _entries(EngineCache()))
    if json:
        Console().print_json(data=[_as_json(each) for each in found])
        return
    for number, each in enumerate(found):
        if number:
            say("")
        for key, value in facts(each):
            _print_fact(key, value, Console().width)


def clean(
    everything: Annotated[bool, typer.Option("--all", help="Delete all compiled engines.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete engines that are stale or damaged, and what ended processes have left.

    A refused one stays: it is what keeps a run from building it again. --all deletes everything.
    """
    cache = EngineCache()
    if everything and not yes:
        _ask(cache)
    removed = cache.clean(present(_models(cache)), everything=everything)
    console = Console(highlight=False)
    for (_, why), files in groupby(removed, key=lambda file: (file.path.stem, file.why)):  # an engine has two
        console.print(f"{', '.join(file.path.name for file in files)}: {why}", markup=False)
    freed = sum(file.bytes for file in removed)
    say(f"{counted(len(removed), 'file')} deleted, {freed:,} bytes ({mebibytes(freed)}), in {cache.folder}")


def _print_fact(key: str, value: str, width: int) -> None:
    """Print a value beside its name, wrapped between words: paths and hashes stay whole, to be copied."""
    room = max(width - INDENT - 1, INDENT)
    for line in textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False):
        say(f"{key:<{INDENT}} {line}")
        key = ""


def _ask(cache: EngineCache) -> None:
    if not _is_asked():
        raise ConfigError("--all deletes every compiled engine and would ask first: say --yes, too")
    typer.confirm(f"Delete all {counted(len(cache.plans()), 'compiled engine')} in {cache.folder}?", abort=True)


def _is_asked() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def _entries(cache: EngineCache) -> list[Listed]:
    return cache.entries(present(_models(cache)))


def _models(cache: EngineCache) -> Iterator[str]:
    for path in cache.plans():
        with suppress(Damaged):
            yield cache.manifest_of(path).model_path


def _matching(name: str, found: list[Listed]) -> list[Listed]:
    """Return the engine whose file or name it is, or else all of a model, with those that are damaged.

    Raises:
        ConfigError: there is none.
    """
    stem = _stem(name)
    for matches in (
        [each for each in found if each.path.stem == stem],
        [each for each in found if _is_of(name, each)],
    ):
        if matches:
            return matches
    raise ConfigError(f"no engine is compiled that is called {name!r}, nor of such a model: see frameloom engines list")


def _stem(name: str) -> str:
    return Path(name).name.removesuffix(PLAN).removesuffix(MANIFEST)


def _is_of(model: str, listed: Listed) -> bool:
    """Whether an engine is of a model; where it is damaged, its name has to tell."""
    if listed.manifest is not None:
        return listed.manifest.model == model
    return re.fullmatch(rf"{re.escape(model)}-({'|'.join(BACKENDS)})-[a-z0-9]+-\w+", listed.path.stem) is not None


def plan_called(name: str) -> Manifest | None:
    """Return the manifest of the plan whose name or file it is; None: there is none.

    Raises:
        ConfigError: it is no plan that could be run.
    """
    cache, stem = EngineCache(), _stem(name)
    if cache.plan_path(stem) not in cache.plans():
        return None
    try:
        manifest = cache.manifest_of(cache.plan_path(stem))
    except Damaged as error:
        raise ConfigError(f"{error}; `frameloom engines clean` deletes it, and a run builds it again") from error
    if manifest.backend == CALIBRATED:
        raise ConfigError(f"{stem} is an int8 network, not an engine: name the engine, or its model")
    return manifest


def _table(found: list[Listed]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("model\nheight x width", overflow="fold")
    table.add_column("engine", overflow="fold", ratio=1)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for each in found:
        table.add_row(*_cells(each))
    return table


def _cells(listed: Listed) -> tuple[Text, Text, str, Text]:
    manifest, verdict = listed.manifest, listed.verdict
    state = Text(verdict.word, style=STYLES.get(verdict.word, "red"))
    name, engine = listed.path.stem, Text()
    if manifest is not None:
        name = f"{manifest.model}\n{shape_words(manifest)}"
        engine.append(f"{manifest.backend} {manifest.version} {manifest.precision}, {age(manifest.built_at)}\n")
        engine.append(made_for(manifest))
    if verdict.reason:
        engine.append(f"\n{verdict.reason}" if engine else verdict.reason, "dim")
    return Text(name), engine, mebibytes(listed.bytes), state


def _as_json(listed: Listed) -> dict[str, Any]:
    manifest = listed.manifest
    return {
        "name": listed.path.stem,
        "file": str(listed.path),
        "bytes": listed.bytes,
        "age_s": None if manifest is None else round((datetime.now(timezone.utc) - manifest.built_at).total_seconds()),
        "state": listed.verdict.word,
        "reason": listed.verdict.reason or None,
        "manifest": None if manifest is None else manifest.model_dump(mode="json"),
    }
