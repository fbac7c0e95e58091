"""Section: a mapping of the configuration, frozen and strict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Section(BaseModel):
    """A mapping in the configuration; left empty, it has its defaults.

    `shorthand` names the key that a bare value stands for, `switch` one that is true where only others are named (who
    writes how people are blurred wants them blurred) and that a bare true or false stands for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    shorthand: ClassVar[str | None] = None
    switch: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if value is None:
            return {}
        if (bare := cls.key_of(value)) and not isinstance(value, Mapping | Section):
            value = {bare: value}
        if cls.switch and isinstance(value, Mapping) and value and cls.switch not in value:
            return {cls.switch: True, **value}
        return value

    @classmethod
    def key_of(cls, bare: object) -> str | None:
        """Return the key that a bare value stands for; None: none does."""
        return cls.switch if cls.switch and isinstance(bare, bool) else cls.shorthand

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say in the schema, too, that a bare value is accepted."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        bare = [schema["properties"][name] for name in dict.fromkeys((cls.shorthand, cls.switch)) if name]
        return {"anyOf": [*bare, schema]} if cls.shorthand else schema

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the fields by what they are called in a file: one whose name Python keeps to itself has an alias."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}
