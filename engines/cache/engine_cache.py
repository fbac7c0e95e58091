"""The cache of compiled engines: which one fits, and what may be deleted.

A plan is code for a GPU, and one that does not fit is at best refused by its runtime and at worst wrong. So it is used
only where its manifest is whole, names the circumstances at hand, and gives the sha256 that the plan's bytes have: the
very bytes that are then loaded. Nothing is loaded from anywhere but this folder, which must be its user's alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.cache.folder import LOCK, MANIFEST, Cached, CacheFolder, Damaged, is_file
from engines.cache.kept_kernels import KERNELS, OF_PLAN, KeptKernels
from engines.cache.manifest import SETTINGS, Key, Manifest, State, differences
from engines.cache.validity import DAMAGED, Present, Verdict, judge
from engines.cache.whole_files import UNFINISHED

if TYPE_CHECKING:
    from engines.cuda.driver import Gpu

__all__ = ["Cached", "EngineCache", "Listed", "Lookup", "Removed"]

TIMING = ".timing"
"""Ending of what TensorRT has measured of a GPU's kernels."""
UNFINISHED_TIMING = re.compile(rf"[^.].*{re.escape(TIMING)}[a-z0-9_]{{8}}")
"""What a killed writer of these once left."""


@dataclass(frozen=True)
class Lookup:
    """What a search found."""

    entry: Cached | None
    problem: str | None = None
    """Where there is none: what is wrong with the nearest there is, in words; None: there is nothing near."""


@dataclass(frozen=True)
class Listed:
    """A line of the list of engines."""

    path: Path
    manifest: Manifest | None
    """None where it is damaged."""
    bytes: int
    """What its files take."""
    verdict: Verdict


@dataclass(frozen=True)
class Removed:
    """A file that was deleted."""

    path: Path
    bytes: int
    why: str


class EngineCache(CacheFolder):
    """Compiled engines on disk."""

    def find(self, key: Key) -> Lookup:
        """Return the engine for exactly these circumstances, else say what is wrong with the nearest there is.

        Raises:
            EngineBuildError: others can put engines into the folder.
        """
        self.check_trusted()
        path = self.plan_path(key.name)
        if path.exists() or path.with_suffix(MANIFEST).exists():
            try:
                return Lookup(self.read(path))
            except Damaged as error:
                return Lookup(None, str(error))
        return Lookup(None, self._nearest(key))

    def find_portable(self, key: Key) -> Lookup:
        """Return an engine that was built without a GPU and is worth trying on the one of `key`; see `find`."""
        self.check_trusted()
        problem = None
        for path, manifest in self._like(key):
            if manifest.portable and not differences(manifest, key):
                try:
                    return Lookup(self.read(path))
                except Damaged as error:
                    problem = str(error)
        return Lookup(None, problem)

    def entries(self, present: Present | None = None) -> list[Listed]:
        """Return everything there is, by name, and whether it could be used under `present` circumstances."""
        return [self._listed(path, present or Present()) for path in self.plans()]

    def _listed(self, path: Path, present: Present) -> Listed:
        size = sum(file.stat().st_size for file in (path, path.with_suffix(MANIFEST)) if file.is_file())
        try:
            manifest = self.read(path).manifest
        except Damaged as error:
            return Listed(path, None, size, Verdict(DAMAGED, str(error)))
        return Listed(path, manifest, size, judge(manifest, present))

    def _like(self, key: Key) -> Iterator[tuple[Path, Manifest]]:
        """Yield what is there of the same model, backend, precision and settings, newest first."""
        found = []
        for path in self.plans():
            with contextlib.suppress(Damaged):
                found.append((path, self.manifest_of(path)))
        same = ["model", "backend", "precision", *SETTINGS]
        if key.portable:
            same += ["gpu", "targets"]  # those for other GPUs are no worse for being for others
        for path, manifest in sorted(found, key=lambda each: each[1].built_at, reverse=True):
            if all(getattr(manifest, name) == getattr(key, name) for name in same):
                yield path, manifest

    def _nearest(self, key: Key) -> str | None:
        each = [(path, differences(manifest, key)) for path, manifest in self._like(key)]
        if not (unfit := [(path, why) for path, why in each if why]):
            return None
        path, why = min(unfit, key=lambda candidate: len(candidate[1]))
        return f"{path.name} was built {'; '.join(why)}"

    def entry(self, key: Key, plan: bytes, build_s: float = 0.0, state: State = "unverified", **more: Any) -> Cached:
        """Return an engine as it would be kept: so far it is only in memory.

        Args:
            key: what it is for.
            plan: the engine.
            build_s: how long the build took, in seconds.
            state: what is known of it.
            more: `model_path`, `workspace_bytes`, `parity` and `refusal`, as in its manifest.
        """
        manifest = Manifest(
            **key.model_dump(),
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            bytes=len(plan),
            built_at=datetime.now(timezone.utc).replace(microsecond=0),
            build_s=round(build_s, 2),
            state=state,
            **more,
        )
        return Cached(self.plan_path(key.name), manifest, plan)

    def keep(self, entry: Cached) -> Cached:
        """Write an engine, in place of the one of the same key; the caller holds its lock.

        Where the folder is not ours to write, it stays only in memory.

        Raises:
            EngineBuildError: the disk is full or broken; nothing is there that will be trusted by mistake.
        """
        if self.is_writable():
            self.write(entry.path, entry.plan)
            self.write(entry.path.with_suffix(MANIFEST), _as_json(entry.manifest))
        return entry

    def store(self, key: Key, plan: bytes, build_s: float = 0.0, state: State = "unverified", **more: Any) -> Cached:
        """Keep an engine; see `entry` for the arguments and `keep` for the rest."""
        return self.keep(self.entry(key, plan, build_s, state, **more))

    def mark(self, entry: Cached, state: State, parity: dict[str, Any] | None, refusal: str | None = None) -> Cached:
        """Write into an engine's manifest what the comparison with its model file has shown; raises as `store`."""
        manifest = entry.manifest.model_copy(update={"state": state, "parity": parity, "refusal": refusal})
        with self.lock(manifest.key, f"stores {manifest.model}"):
            if self.is_writable():
                self.write(entry.path.with_suffix(MANIFEST), _as_json(manifest))
        return Cached(entry.path, manifest, entry.plan)

    def timing_cache(self, key: Key) -> Path | None:
        """Return where the measurements of a GPU's kernels are kept between builds; None: nowhere."""
        if key.portable or not self.is_writable():
            return None
        machine = _machine(key.gpu, key.compute_capability, key.driver)
        return self.folder / f"{key.backend}-{key.version}-{machine}{TIMING}"

    def kernels(self, entry: Cached, gpu: Gpu) -> KeptKernels | None:
        """Return what keeps the kernels that a plan's runs compile on a GPU; None: the folder is not ours to write."""
        if not self.is_writable():
            return None
        machine = _machine(gpu.name, gpu.compute_capability, gpu.driver)
        name = f"{entry.manifest.plan_sha256[:OF_PLAN]}-{machine}"
        return KeptKernels(self.folder / f"{name}{KERNELS}", self._lock(name))

    def clean(self, present: Present | None = None, *, everything: bool = False) -> list[Removed]:
        """Delete what cannot be used: unfinished files, what is damaged, what is stale under `present` circumstances.

        What is for another machine stays: it may share this folder. What somebody is building at the moment stays.

        Args:
            present: the circumstances.
            everything: whether to delete all engines, and what was measured for builds.
        """
        present = present or Present()
        removed = self._clean_unfinished()
        for path in self.plans():
            with self.if_free(path.stem) as free:
                verdict = self._listed(path, present).verdict
                if free and (everything or verdict.useless):
                    why = verdict.reason if verdict.useless else "everything was asked for"
                    # The manifest first: a plan without one is never trusted.
                    removed += _delete([path.with_suffix(MANIFEST), path], why)
        if everything:
            removed += _delete(sorted(self.folder.glob(f"*{TIMING}")), "everything was asked for")
        return removed + self._clean_kernels()

    def _clean_kernels(self) -> list[Removed]:
        """Delete compiled kernels whose plan is not here, or not here any more."""
        plans = set()
        for path in self.plans():
            with contextlib.suppress(Damaged):
                plans.add(self.manifest_of(path).plan_sha256[:OF_PLAN])
        files = sorted(self.folder.glob(f"*{KERNELS}"))
        return _delete([file for file in files if file.name[:OF_PLAN] not in plans], "their engine is gone")

    def _clean_unfinished(self) -> list[Removed]:
        """Delete what killed processes have left: nobody holds the lock of that name."""
        removed = []
        for file in sorted(self.folder.glob(f".*{UNFINISHED}")):
            name = Path(file.name.removeprefix(".").removesuffix(UNFINISHED)).stem
            with self.if_free(name) as free:
                removed += _delete([file] if free else [], "a process that has ended left it unfinished")
        torn = [file for file in self.folder.glob(f"*{TIMING}*") if UNFINISHED_TIMING.fullmatch(file.name)]
        removed += _delete(sorted(torn), "a process that has ended left it unfinished")
        for file in self.folder.glob(f".*{LOCK}"):
            with self.if_free(file.name.removeprefix(".").removesuffix(LOCK)):
                pass  # which deletes it in the end
        return removed


def _machine(*parts: str | None) -> str:
    """Return what stands for a GPU and its driver in a file's name."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:8]


def _delete(files: list[Path], why: str) -> list[Removed]:
    removed = []
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            if is_file(file):
                size = file.lstat().st_size
                file.unlink()
                removed.append(Removed(file, size, why))
    return removed


def _as_json(manifest: Manifest) -> bytes:
    return (manifest.model_dump_json(indent=1) + "\n").encode()
