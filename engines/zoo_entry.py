"""One entry of `zoo.yaml`, strictly checked: a key nobody knows, a missing hash or an unpinned version is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from engines.spec import TEMPLATES, EncoderSpec, HeadOptions, InputSpec, Precision

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]*$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]


class Wanted(Protocol):
    """A file that is looked for by its sha256."""

    @property
    def file(self) -> str:
        """Its name in the cache."""

    @property
    def bytes_by_sha256(self) -> dict[str, int]:
        """What it may be: sha256 to size."""

    @property
    def accepted_hashes(self) -> str:
        """The accepted sha256 as words: `A or B`."""


class Accepted(_Strict):
    """One export of the network that may be used."""

    sha256: Sha256
    bytes: Annotated[int, Field(gt=0)]


class Companion(_Strict):
    """A second file, without which the first is no model: the network that Darknet's weights belong to."""

    file: FileName
    """Its name in the cache: that of the first file, but for the suffix."""
    sha256: Sha256
    bytes: Annotated[int, Field(gt=0)]
    member: str
    """Its path in the archives that the first file comes from."""

    @property
    def bytes_by_sha256(self) -> dict[str, int]:
        """As of `Wanted`."""
        return {self.sha256: self.bytes}

    @property
    def accepted_hashes(self) -> str:
        """As of `Wanted`."""
        return self.sha256


class PackageMember(_Strict):
    """A file in one archive of one version of a Python package."""

    package: str
    version: Annotated[str, StringConstraints(pattern=r"^\d[\w.]*$")]
    archive: Literal["wheel", "sdist"]
    member: str
    """Its path in the package; in a source archive that is below the `NAME-VERSION/` folder."""

    @property
    def origin(self) -> tuple[str, str, str]:
        """The archive it is in: package, version, kind."""
        return self.package, self.version, self.archive

    def __str__(self) -> str:
        return f"package {self.package} {self.version} ({self.archive})"


class Address(_Strict):
    """A file with an address of its own."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://")]

    def __str__(self) -> str:
        return self.url


Source = PackageMember | Address


def _with_named_template(value: object) -> object:
    if isinstance(value, Mapping) and isinstance(value.get("template"), str):
        return {**value, "template": TEMPLATES.get(value["template"], value["template"])}
    return value


class Entry(_Strict):
    """One model or demo clip: what it is, what may be done with it, where it can be had."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    task: str
    """As in `ModelSpec`; also `clip` (a demo video) and `train` (weights for training only)."""
    file: FileName
    """The file's name in the cache."""
    accepts: Annotated[tuple[Accepted, ...], Field(min_length=1)]
    companions: tuple[Companion, ...] = ()
    """What must lie beside it."""
    licence: str
    commercial_use: bool | None
    """Whether the weights may be used commercially; None: not stated."""
    note: str = ""
    input: InputSpec = InputSpec()
    head: str | None = None
    head_options: HeadOptions = HeadOptions()
    labels: tuple[str, ...] = ()
    encoder: Annotated[EncoderSpec, BeforeValidator(_with_named_template)] | None = None
    """For face encoders; `template` may be one of the names in `engines.spec.TEMPLATES`."""
    accuracy: str | None = None
    """Reference accuracy, and on what."""
    precision: Precision = "auto"
    shipped: Annotated[str, StringConstraints(pattern=r"^\w[\w./-]*$")] | None = None
    """Path below the folder of `engines` of a file that comes with Frameloom; it is looked for nowhere else."""
    sources: tuple[Source, ...] = ()
    """Where it can be had, in the order to try; empty: only from a mirror folder."""

    @model_validator(mode="after")
    def _companions_can_be_found(self) -> Entry:
        for each in self.companions:
            if Path(each.file).stem != Path(self.file).stem or each.file == self.file:
                raise ValueError(f"{each.file} should be called {Path(self.file).stem} with another suffix")
            if not all(isinstance(source, PackageMember) for source in self.sources):
                raise ValueError(f"{each.file} cannot come from a url: companions come out of packages")
        return self

    @property
    def shipped_path(self) -> Path | None:
        """Where the file is that comes with Frameloom; None: none does."""
        return None if self.shipped is None else Path(__file__).parent / self.shipped

    @property
    def files(self) -> tuple[Wanted, ...]:
        """Every file of it, the model's own first."""
        return (self, *self.companions)

    @property
    def bytes_by_sha256(self) -> dict[str, int]:
        """The accepted files: sha256 to size."""
        return {each.sha256: each.bytes for each in self.accepts}

    @property
    def accepted_hashes(self) -> str:
        """The accepted sha256 as words: `A or B`."""
        return " or ".join(self.bytes_by_sha256)
