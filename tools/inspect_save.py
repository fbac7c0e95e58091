"""Writing down what a model is taken for: an entry beside its file, which every command uses from then on."""

from __future__ import annotations

import re
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING

from engines import own_models
from engines.metadata import LONGEST_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engines.spec import InputSpec
    from tools.inspect_facts import Facts
    from tools.inspect_recognise import Recognised

LICENCES = ("license", "licence")
"""Keys of the metadata under which a file may state its licence."""
FILE_NAME = r"\w[\w.-]*"
"""What an entry takes for a file's name."""


def save(found: Recognised, facts: Facts, *, replace: bool) -> Path:
    """Write the entry of a model beside its file, and return the entry's path.

    Args:
        found: what it is taken for.
        facts: what its file says.
        replace: whether there may be a file of that name already.

    Raises:
        ModelError: there is one, or it cannot be written.
    """
    spec, file = found.spec, facts.path
    fields = {
        "name": name_of(file.stem),
        "task": spec.task,
        "licence": _licence(spec.licence, facts.entries),
        "commercial_use": spec.commercial_use,
        "input": _sized(found),
        "head": spec.head,
        "head_options": spec.head_options,
        "labels": spec.labels,
        "encoder": spec.encoder,
        "precision": spec.precision,
    }
    if re.fullmatch(FILE_NAME, file.name):
        fields["file"] = file.name
    return own_models.describe(file, own_models.entry_of(file, fields), replace=replace)


def name_of(stem: str) -> str:
    """Return a name that the zoo allows: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "model"


def _sized(found: Recognised) -> InputSpec:
    """Return the input with its size; a face finder's follows the frames."""
    if found.spec.task == "face-detect":
        return found.spec.input
    return replace_fields(found.spec.input, height=found.size[0], width=found.size[1])


def _licence(known: str, entries: Mapping[str, str]) -> str:
    stated = next((" ".join(entries[key].split()) for key in LICENCES if entries.get(key)), "unknown")
    return known if known != "unknown" else stated[:LONGEST_LABEL]
