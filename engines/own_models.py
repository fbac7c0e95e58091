"""A user's own models: a model file, and beside it an entry file of the same stem that describes it as the zoo would.

`my-faces.onnx` is described by `my-faces.yaml`, which holds exactly one `Entry`. Beside any file that is opened by its
path, such an entry is read; what lies in the user's own folder is part of the zoo and can be named. That folder is no
cache: nothing can fetch those files again. FRAMELOOM_CACHE moves it to `own-models` inside itself.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_data_path
from pydantic import ValidationError

from engines.errors import ChecksumMismatch, ModelError
from engines.model_files import Found, sha256_of
from engines.zoo_entry import Entry

log = logging.getLogger(__name__)

SUFFIX = ".yaml"
INSPECTED = ("detect", "face-detect", "segment", "stylize")
"""Tasks of models that `frameloom models inspect` describes."""


@dataclass(frozen=True)
class OwnModel:
    """An entry file that was read, and the model file that it describes."""

    entry: Entry
    path: Path
    """The model file, whether it is there or not."""

    def found(self) -> Found | None:
        """Return the model file, checked; None where there is none.

        Raises:
            ChecksumMismatch: it is not the one that the entry describes. It is left as it is.
        """
        if not self.path.is_file():
            return None
        sha256 = sha256_of(self.path)
        if sha256 not in self.entry.bytes_by_sha256:
            raise ChecksumMismatch(
                f"{self.path} is not the file that {self.path.with_suffix(SUFFIX).name} beside it describes: its "
                f"sha256 is {sha256}, expected {self.entry.accepted_hashes}; put the right file back, or "
                f"{self._describe_anew()}"
            )
        return Found(self.path, sha256)

    def _describe_anew(self) -> str:
        """Say what to do where the file was changed on purpose, such as by more training."""
        if self.entry.task not in INSPECTED:
            return "correct that"
        task = "" if self.entry.task == "detect" else f" --task {self.entry.task}"
        file = shlex.quote(str(self.path))
        return f"describe this one: `frameloom models inspect {file}{task} --save-spec --replace`"


def own_model_folder() -> Path:
    """Return the folder of the user's own models, whether it exists or not."""
    root = os.environ.get("FRAMELOOM_CACHE")
    return Path(root).expanduser() / "own-models" if root else user_data_path("frameloom") / "models"


def own_models(taken: Container[str]) -> Iterator[OwnModel]:
    """Yield the models of the user's own folder, by file name.

    An entry file that is damaged, or whose name is in `taken` or used twice, is skipped with a logged warning: it must
    not stop commands that do not need it.
    """
    folder = own_model_folder()
    if not folder.is_dir():
        return
    seen: dict[str, Path] = {}
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            entry = _read(file)
        except ModelError as error:
            log.warning("own model skipped: %s", error)
            continue
        if (rival := _rival(entry.name, taken, seen)) is not None:
            log.warning("own model skipped: %s is called %r as is %s; rename it in that file", file, entry.name, rival)
            continue
        seen[entry.name] = file
        yield OwnModel(entry, folder / entry.file)


def described_beside(model_file: Path) -> OwnModel | None:
    """Return what the entry file beside a model file says of it; None where there is none.

    A YAML file beside it that does not even say `accepts` is something else of the same name: ignored with a warning.

    Raises:
        ModelError: it is a damaged entry; the message names the place.
    """
    file = model_file.with_suffix(SUFFIX)
    if file == model_file or not file.is_file():
        return None
    if "accepts" not in (document := _parse(file)):
        log.warning("%s is ignored: it is not an entry for %s (it has no `accepts`)", file, model_file.name)
        return None
    return OwnModel(_validate(document, file), model_file)


def add(model_file: Path, fields: Mapping[str, Any], *, replace: bool) -> OwnModel:
    """Copy a model file into the user's own folder and write its entry file; each gets its name in one rename.

    Args:
        model_file: the file; it stays where it is.
        fields: those of `Entry`, without `file` and `accepts`, which are found out.
        replace: whether a model of that name may be there already. Its entry goes first, so that no reader
            ever finds an entry beside another file than its own.

    Raises:
        ModelError: the fields make no entry, the name is there already, or a file cannot be read or written.
    """
    from engines.download import scratch_folder, store  # brings requests: 0.2 s that only this needs

    entry = entry_of(model_file, fields)
    folder = own_model_folder()
    target, described = folder / entry.file, folder / f"{entry.name}{SUFFIX}"
    if described.exists() and not replace:
        raise ModelError(f"{described} exists already: choose another name than {entry.name!r}, or say --replace")
    try:
        with scratch_folder(folder) as scratch:
            shutil.copyfile(model_file, scratch / entry.file)
            (scratch / described.name).write_text(_as_yaml(entry), encoding="utf-8")
            described.unlink(missing_ok=True)
            store(scratch / entry.file, target)
            store(scratch / described.name, described)
    except OSError as error:
        raise ModelError(f"{entry.name!r} cannot be kept in {folder}: {error.strerror}") from error
    return OwnModel(entry, target)


def describe(model_file: Path, entry: Entry, *, replace: bool = True) -> Path:
    """Write an entry file beside a model file and return its path.

    Args:
        model_file: what it describes.
        entry: what it says.
        replace: whether there may be a file of that name already; it need not be an entry.

    Raises:
        ModelError: it is there already, or cannot be written.
    """
    from engines.download import scratch_folder, store  # as above

    described = model_file.with_suffix(SUFFIX)
    if described.exists() and not replace:
        raise ModelError(f"{described} exists already, and is left as it is: say --replace to write it anew")
    try:
        with scratch_folder(model_file.parent) as scratch:
            (scratch / described.name).write_text(_as_yaml(entry), encoding="utf-8")
            store(scratch / described.name, described)
    except OSError as error:
        raise ModelError(f"{described} cannot be written: {error.strerror}") from error
    return described


def entry_of(model_file: Path, fields: Mapping[str, Any]) -> Entry:
    """Return the entry for a file as it is now.

    Args:
        model_file: the file.
        fields: those of `Entry`, without `accepts`, which is found out; without `file` it is called after its name.

    Raises:
        ModelError: the fields make no entry, or the file cannot be read.
    """
    sha256 = sha256_of(model_file)
    accepted = {"sha256": sha256, "bytes": model_file.stat().st_size}
    file = f"{fields.get('name')}{model_file.suffix}"
    return _validate({"file": file, **fields, "accepts": [accepted]}, model_file)


def _as_yaml(entry: Entry) -> str:
    fields = entry.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


def _rival(name: str, taken: Container[str], seen: Mapping[str, Path]) -> str | None:
    if name in taken:
        return "a model that comes with Frameloom"
    return str(seen[name]) if name in seen else None


def _read(file: Path) -> Entry:
    entry = _validate(_parse(file), file)
    if Path(entry.file).stem != file.stem or entry.file == file.name:
        raise ModelError(f"{file} describes {entry.file!r}: the two must have one stem, such as {file.stem}.onnx")
    return entry


def _parse(file: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), loader)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{file} holds {type(document).__name__}, not the entry of one model: correct or remove it")
    return document


def _validate(document: Mapping[str, Any], file: Path) -> Entry:
    try:
        return Entry.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the entry"
        value = "" if first["type"] == "missing" else f" (it is {first['input']!r:.80})"
        raise ModelError(f"{file}: {place}: {first['msg']}{value}") from error
