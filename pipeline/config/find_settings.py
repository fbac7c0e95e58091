"""Settings of finding: objects, faces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.config.section import Section
from pipeline.config.values import FilePath, InputSize, Text, Texts, Tiles, wrong


class DetectSettings(Section):
    """Finding objects."""

    enabled: bool = Field(default=True, description="Detect objects.")
    model: Text = Field(default="yolox-nano", description="Name of a known model, or path of an ONNX file.")
    confidence: float = Field(default=0.3, ge=0, le=1, description="Keep boxes that score more than this.")
    iou: float = Field(
        default=0.45, ge=0, le=1, description="Of two boxes overlapping more than this (IoU), keep the better."
    )
    classes: Texts = Field(default=(), description="Keep these classes only, by name (empty: all).")
    class_agnostic: bool = Field(default=False, description="Let boxes of different classes suppress each other.")
    nms: Literal["standard", "diou", "soft-linear", "soft-gaussian", "fusion"] = Field(
        default="standard",
        description="How boxes of one object become one: NMS, by distance IoU, soft, or weighted boxes fusion.",
    )
    max_detections: int = Field(default=300, ge=1, description="Keep so many boxes of a frame, the best ones.")
    input_size: InputSize | None = Field(
        default=None,
        description="Side or [height, width] of the model's input, pixels (null: the model's own).",
    )
    every: int = Field(
        default=1, ge=1, description="Detect in every n-th frame; the others take over what was found before."
    )
    between: Literal["hold", "predict"] = Field(
        default="predict",
        description="Boxes of frames that are not detected in: held where they were, or moved on as they moved.",
    )
    when: Literal["always", "motion"] = Field(
        default="always", description="motion: leave the model out while nothing moves."
    )
    motion_area: float = Field(
        default=0.001, gt=0, lt=1, description="With motion: part of the picture that must change, 0.001 = 0.1 %."
    )
    motion_hold_s: float = Field(
        default=1.0, ge=0, description="With motion: go on detecting for so long after the last of it."
    )
    keep_alive_s: float | None = Field(
        default=5.0, gt=0, description="With motion: detect at least this often all the same (null: never)."
    )
    tiles: Tiles | None = Field(
        default=None,
        description="Detect in overlapping parts of large pictures: auto, ROWSxCOLUMNS such as 2x3, or the side of a "
        "part in pixels (null: only in the whole).",
    )
    tile_overlap: float = Field(
        default=0.2, ge=0, lt=0.9, description="How much of a part the next one shares with it."
    )
    full_frame: bool = Field(default=True, description="With tiles: detect in the whole picture, too.")
    on_overload: Literal["drop", "bypass"] = Field(
        default="drop",
        description="Where a live source is faster than the model: drop frames, or let them bypass it, with what was "
        "found before.",
    )
    smaller_model: Text | None = Field(
        default=None,
        description="Model of the ladder's last step (null: the same model with an input of 3/4 the size).",
    )

    @field_validator("full_frame")
    @classmethod
    def _something_is_left(cls, full_frame: bool, info: ValidationInfo) -> bool:
        if not full_frame and info.data.get("tiles", "auto") is None:
            raise wrong("leaves nothing to detect in without detect.tiles: set those, or leave this true")
        return full_frame


class FacesSettings(Section):
    """Finding and recognising faces."""

    enabled: bool | None = Field(
        default=None, description="Find faces (null: where a gallery is named, which is also what recognises them)."
    )
    finder: Text = Field(default="centerface", description="Name of a known face finder, or path of an ONNX file.")
    embedder: Text | None = Field(
        default=None,
        description="Name of a known face encoder, or path of an ONNX file (null: the gallery's, else dlib-resnet).",
    )
    gallery: FilePath | None = Field(
        default=None, description="Who is known: a file made by `frameloom gallery add` (null: find only)."
    )
    threshold: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Similarity from which a face is that person (null: as calibrated, else the encoder's own).",
    )
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="Keep faces that score more than this (null: the finder's own)."
    )
    short_side: int = Field(
        default=256,
        ge=32,
        le=4096,
        multiple_of=32,
        description="Short side of the finder's input, pixels; larger finds smaller faces.",
    )
    min_quality: float = Field(default=0.15, ge=0, le=1, description="Faces of less are shown, but not matched.")
    match_every: int = Field(default=1, ge=1, description="Match faces in every n-th frame.")
    inside_persons: bool = Field(default=False, description="Look for faces only where persons were detected.")
    mirrored: bool = Field(
        default=False, description="Encode each face and its mirror image: a little more exact, twice the work."
    )
    liveness: bool = Field(default=False, description="Do not match photos and screens (needs the MiniFASNet files).")
    min_liveness: float = Field(default=0.5, ge=0, le=1, description="Faces of less are shown, but not matched.")
    points: Text | None = Field(
        default=None, description="Path of an ONNX file for 68 landmarks, such as PFLD's (null: none)."
    )
    left_after_s: float = Field(
        default=5.0, gt=0, description="A known person who was not seen for so long has left (person.left)."
    )
    unknown_after_s: float = Field(
        default=2.0, ge=0, description="A face that stays unknown for so long is reported (person.unknown)."
    )
    event_every_s: float = Field(
        default=30.0, ge=0, description="Least time between two events of a kind about one person."
    )

    @property
    def on(self) -> bool:
        """Whether faces are looked for."""
        return self.gallery is not None if self.enabled is None else self.enabled
