"""Settings of what is done to the picture as a whole: segmentation and what is made of it, stylization."""

from __future__ import annotations

import os
import re
from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.section import Section
from pipeline.config.values import AnyInputSize, Text, Texts, wrong

COLOUR = re.compile(r"#([0-9a-fA-F]{3}){1,2}", re.ASCII)
"""#rgb or #rrggbb."""


class SegmentSettings(Section):
    """Saying of every pixel what it belongs to, and what is made of that."""

    shorthand = "enabled"
    switch = "enabled"
    enabled: bool | None = Field(default=None, description="Segment pictures (null: where stylize.where needs it).")
    model: Text = Field(default="selfie-landscape", description="Name of a known model, or path of a model file.")
    input_size: AnyInputSize | None = Field(
        default=None, description="Side or [height, width] of the model's input, pixels (null: the model's own)."
    )
    classes: Texts = Field(
        default=(), description="Classes that count as foreground, by name (empty: all but background)."
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="Probability from which a pixel is foreground, for models of one class."
    )
    every: int = Field(
        default=1, ge=1, description="Segment every n-th frame; in the others the last map moves with the picture."
    )
    edges: bool = Field(default=True, description="Let the edges of masks follow those in the picture.")
    smooth_s: float = Field(
        default=0.1, ge=0, le=2, description="Average over about so many seconds against flicker (0: do not)."
    )
    effect: Literal["overlay", "blur-background", "replace-background", "cut-out", "none"] = Field(
        default="overlay",
        description="overlay: tint the foreground; blur-background; replace-background; cut-out: black behind; none.",
    )
    opacity: float = Field(default=0.45, gt=0, le=1, description="Of the overlay.")
    blur: float = Field(
        default=0.04, gt=0, le=0.5, description="Radius of the background's blur, part of the short side."
    )
    background: Text = Field(
        default="#00b140", description="With replace-background: a colour such as #00b140, or path of an image."
    )

    @field_validator("background", mode="before")
    @classmethod
    def _is_no_comment(cls, value: object) -> object:
        if value is None:
            raise wrong('is no colour: # begins a comment in YAML, so write a colour in quotes, such as "#00b140"')
        return value

    @field_validator("background")
    @classmethod
    def _is_a_colour_or_an_image(cls, value: str) -> str:
        if COLOUR.fullmatch(value):
            return value
        if value.startswith("#"):
            raise wrong("is no colour: write # and three or six digits 0..9, a..f, such as #00b140")
        path = os.path.expanduser(value)
        if not os.path.isfile(path):
            what = "is a folder" if os.path.isdir(path) else "is neither a colour nor a file that is there"
            raise wrong(f"{what}: write a colour such as #00b140, or the path of an image")
        if not is_readable_image(path):
            raise wrong("is no image that can be read: name one, or a colour such as #00b140")
        return path


def is_readable_image(path: str) -> bool:
    """Whether a file is an image; OpenCV is loaded only where one is named."""
    from pathlib import Path

    from pipeline.capture.images import read_image

    return read_image(Path(path)) is not None


class StylizeSettings(Section):
    """Painting the picture in the style of a painting."""

    shorthand = "model"
    switch = "enabled"
    enabled: bool = Field(default=False, description="Stylize pictures.")
    model: Text = Field(
        default="starry-night",
        description="Name of a known style (`frameloom models list --task stylize`), or path of an ONNX file.",
    )
    strength: float = Field(default=1.0, ge=0, le=1, description="Blend between the picture (0) and its style (1).")
    where: Literal["everywhere", "inside", "outside", "side-by-side"] = Field(
        default="everywhere",
        description="inside or outside the foreground of segment; side-by-side: beside the picture as it is.",
    )
    keep_colours: bool = Field(default=False, description="Keep the picture's colours, take only light and strokes.")
    short_side: int = Field(
        default=360, ge=64, le=2160, description="Short side of what is stylized, pixels, at most; less is faster."
    )
    budget_ms: float | None = Field(
        default=None,
        gt=0,
        description="Take the largest size, up to short_side, that needs no longer (null: short_side).",
    )
    stable: float = Field(
        default=0.8,
        ge=0,
        le=0.95,
        description="Part that is taken over from the last frame, moved with the picture, against flicker (0: none).",
    )
