"""One entry of `zoo.yaml`, strictly checked: a key nobody knows, a missing hash or an unpinned version is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from engines.spec import TEMPLATES, EncoderSpec, HeadOptions, InputSpec, Precision

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]*$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Accepted(_Strict):
    """One export of the network that may be used."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(gt=0)]


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
    file: Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
    """The file's name in the cache."""
    accepts: Annotated[tuple[Accepted, ...], Field(min_length=1)]
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
    sources: tuple[Source, ...] = ()
    """Where it can be had, in the order to try; empty: only from a mirror folder."""

    @property
    def bytes_by_sha256(self) -> dict[str, int]:
        """The accepted files: sha256 to size."""
        return {each.sha256: each.bytes for each in self.accepts}

    @property
    def accepted_hashes(self) -> str:
        """The accepted sha256 as words: `A or B`."""
        return " or ".join(self.bytes_by_sha256)
