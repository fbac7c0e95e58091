"""Settings of what is made of the results: tracks, zones, clips, blur, drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline.config.section import Section
from pipeline.config.shapes import line_fault, polygon_fault
from pipeline.config.values import EventNames, FilePath, FolderPath, Point, Text, Texts, X264Preset, wrong

SMALLEST_PIXELS = 4
"""Nobody draws a zone of fewer: a number between 1 and this is a mistake."""


class TrackSettings(Section):
    """Following objects from frame to frame."""

    shorthand = "enabled"
    switch = "enabled"
    enabled: bool | None = Field(
        default=None, description="Follow objects (null: where zones, ground, sinks.mot or recognised faces need it)."
    )
    low_confidence: float = Field(
        default=0.1, ge=0, le=1, description="Boxes down to this score continue a track, but begin none."
    )
    start_confidence: float | None = Field(
        default=None, ge=0, le=1, description="Boxes from this score begin a track (null: detect.confidence)."
    )
    min_iou: float = Field(
        default=0.1, ge=0, le=1, description="A box that overlaps with where a track should be by less is not it."
    )
    confirm_frames: int = Field(
        default=2, ge=1, description="A track gets its number when it was seen in so many frames."
    )
    max_gap_s: float = Field(
        default=2.0,
        gt=0,
        description="A track not seen for longer, and for three frames, has ended; its number never comes again.",
    )
    camera_motion: bool = Field(default=False, description="Allow for a camera that moves, by sparse optical flow.")
    appearance: Text | None = Field(
        default=None,
        description="Find tracks again by how they look: colour, or path of an ONNX encoder (null: by place alone).",
    )
    class_agnostic: bool = Field(default=False, description="Let a track's class change from frame to frame.")


class ZoneSettings(Section):
    """A part of the picture, or a line through it, that reports what enters, leaves, stays or crosses."""

    name: Text = Field(description="Name in events; each has its own.")
    source: Texts = Field(default=(), description="Sources that it is for (empty: all).")
    polygon: tuple[Point, ...] | None = Field(
        default=None,
        strict=False,
        description="Corners of an area, in order, each [x, y]: pixels, or parts of width and height.",
    )
    line: tuple[Point, Point] | None = Field(
        default=None,
        strict=False,
        description="Ends of a line, each [x, y]; seen from the first end, what crosses to the right comes in.",
    )
    units: Literal["auto", "pixels", "relative"] = Field(
        default="auto", validate_default=True, description="Of the points (auto: relative where no number is above 1)."
    )
    classes: Texts = Field(default=(), description="Classes that count, by name (empty: all).")
    anchor: Literal["bottom", "centre"] = Field(
        default="bottom", description="The point of a box that is in or out: where it stands, or its centre."
    )
    margin: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Part of its height by which an object must be past the edge to have crossed it.",
    )
    debounce_s: float = Field(default=0.2, ge=0, description="It must stay there for so long.")
    dwell_s: float | None = Field(
        default=None, gt=0, description="Report what stays inside for so long (null: do not)."
    )
    max_objects: int | None = Field(
        default=None, ge=0, description="Report when more are inside at a time (null: do not)."
    )
    max_speed: float | None = Field(
        default=None,
        gt=0,
        description="Report what is faster: m/s where the source has ground, else pixels/s (null: do not).",
    )

    @property
    def points(self) -> tuple[Point, ...]:
        """The corners of the area, or the ends of the line."""
        return self.polygon or self.line or ()

    @property
    def is_relative(self) -> bool:
        """Whether points are parts of width and height."""
        return self.units == "relative" or (self.units == "auto" and max(map(max, self.points), default=0) <= 1)

    @field_validator("polygon")
    @classmethod
    def _has_an_area(cls, corners: tuple[Point, ...] | None, info: ValidationInfo) -> tuple[Point, ...] | None:
        if corners is not None and (fault := polygon_fault(corners)):
            raise wrong(f"cannot be zone {info.data.get('name')!r}: it {fault}")
        return corners

    @field_validator("line")
    @classmethod
    def _has_a_length(cls, ends: tuple[Point, Point] | None, info: ValidationInfo) -> tuple[Point, Point] | None:
        if ends is not None and (fault := line_fault(ends)):
            raise wrong(f"cannot be zone {info.data.get('name')!r}: it {fault}")
        return ends

    @field_validator("units")
    @classmethod
    def _fit(cls, units: str, info: ValidationInfo) -> str:
        points = info.data.get("polygon") or info.data.get("line") or ()
        largest = max(points, key=max, default=(0.0, 0.0))
        at = f"[{largest[0]:g}, {largest[1]:g}] of zone {info.data.get('name')!r}"
        if units == "relative" and max(largest) > 1:
            raise wrong(f"does not fit {at}: relative numbers are 0..1")
        if units == "auto" and 1 < max(largest) < SMALLEST_PIXELS:
            raise wrong(f"leaves open what {at} is: a relative number is 0..1; for so small a zone write units: pixels")
        return units

    @field_validator("dwell_s", "max_objects")
    @classmethod
    def _is_of_an_area(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("line") is not None:
            raise wrong(f"needs a polygon: nothing is inside zone {info.data.get('name')!r}, which is a line")
        return value

    @model_validator(mode="after")
    def _is_one_of_two(self) -> ZoneSettings:
        if (self.polygon is None) == (self.line is None):
            raise wrong(f"cannot be zone {self.name!r}: it needs a polygon or a line, one of them")
        return self


KEYFRAMES_S = 2
"""Clips begin and end with a keyframe, of which there is one each second: they are longer by up to so much."""


class ClipsSettings(Section):
    """Short recordings around events."""

    on: EventNames = Field(
        default=(),
        description="Events that make a clip, such as zone.enter, line.cross, person.unknown, or zone.* (empty: off).",
    )
    folder: FolderPath = Field(default=Path("clips"), description="Where clips and their pictures go.")
    before_s: float = Field(default=5.0, ge=0, le=300, description="Seconds to keep from before the event.")
    after_s: float = Field(default=10.0, ge=0, le=3600, description="Seconds to record after the last event.")
    max_s: float = Field(default=120.0, gt=0, description="Longest clip; what goes on then begins another one.")
    pictures: Literal["annotated", "original"] = Field(default="annotated", description="What is recorded.")
    thumbnail: bool = Field(default=True, description="Write a JPEG of the event beside each clip.")
    max_mb: float | None = Field(
        default=1000.0, gt=0, description="Delete the oldest clips when all take more, in megabytes (null: never)."
    )
    memory_mb: float = Field(default=64.0, gt=0, description="Most memory for what was before, for each source.")
    preset: X264Preset = Field(default="superfast", description="Preset of libx264 for clips.")
    crf: int = Field(default=23, ge=0, le=51, description="Constant rate factor of clips: 0 is best and largest.")

    @model_validator(mode="after")
    def _has_room_for_an_event(self) -> ClipsSettings:
        if self.max_s < self.before_s + KEYFRAMES_S:
            raise wrong(
                f"max_s {self.max_s:g} is too short for before_s {self.before_s:g}: at least {KEYFRAMES_S} seconds more"
            )
        return self


class BlurSettings(Section):
    """Making people unrecognisable before a picture leaves the program."""

    shorthand = "enabled"
    switch = "enabled"
    enabled: bool = Field(default=False, description="Hide people in all pictures that are shown, recorded or sent.")
    what: Literal["faces", "persons", "both"] = Field(default="faces", description="What is hidden.")
    how: Literal["blur", "pixelate", "fill"] = Field(default="blur", description="How it is hidden.")
    hold_s: float = Field(
        default=1.0, ge=0, description="Hide the last place for so long where nothing is found any more."
    )
    grow: float = Field(default=0.3, ge=0, le=2, description="Part of its size by which a place is made larger.")
    spare: Literal["known"] | Texts = Field(
        default=(),
        alias="except",
        description="Whom not to hide: known (everybody in the gallery), or a list of names (empty: nobody).",
    )


class RenderSettings(Section):
    """Drawing the results into the picture."""

    enabled: bool = Field(default=True, description="Draw into the pictures that are shown and recorded.")
    boxes: bool = Field(default=True, description="Draw boxes.")
    labels: bool = Field(default=True, description="Write class and score at each box.")
    landmarks: bool = Field(default=False, description="Draw the landmarks of faces.")
    masks: bool = Field(default=True, description="Tint objects where the model gives their masks.")
    keypoints: bool = Field(default=True, description="Draw skeletons where the model gives keypoints.")
    trail_s: float = Field(
        default=1.5, ge=0, le=60, description="Draw where tracked objects were in the last seconds (0: do not)."
    )
    zones: bool = Field(default=True, description="Draw zones and lines with their counts.")
    speeds: bool = Field(default=False, description="Write the speed of tracked objects.")
    hud: bool = Field(default=True, description="Write frame rate and latency into a corner.")
    theme: Literal["vivid", "colour-blind", "mono"] = Field(
        default="vivid",
        description="Colours: bright, told apart by colour-blind people too, or black and white.",
    )
    thickness: int | None = Field(
        default=None, ge=1, le=20, description="Line width, pixels (null: from the picture's size)."
    )
    font_scale: float | None = Field(
        default=None, gt=0, le=20, description="Text size, 1 = 25 pixels high (null: from the picture's size)."
    )
    font: FilePath | None = Field(
        default=None, description="TrueType font of the labels (null: OpenCV's own, which has most scripts)."
    )
