"""The settings of a run: frozen, typed, each with its default and a sentence that explains it.

The fields are the keys of `config.yaml`. A short form (`record: out.mp4` for `record: {path: out.mp4}`) becomes the
long one here, so whoever reads `Settings` sees one shape only. `load.py` loads them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.config.values import (
    Address,
    Crop,
    EmptyIsNone,
    FilePath,
    FolderPath,
    InputSize,
    Ladder,
    NotYet,
    Options,
    Rotation,
    SourceName,
    Text,
    Texts,
    Tiles,
    VideoPath,
    X264Preset,
    wrong,
    wrong_at,
)


class Section(BaseModel):
    """A mapping in the configuration; left empty, it has its defaults.

    `shorthand` names the key that a bare value stands for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    shorthand: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if value is None:
            return {}
        if cls.shorthand and not isinstance(value, Mapping | Section):
            return {cls.shorthand: value}
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say in the schema, too, that a bare value is accepted."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [schema["properties"][cls.shorthand], schema]} if cls.shorthand else schema


class SourceSettings(Section):
    """Where pictures come from."""

    shorthand = "url"
    name: SourceName | None = Field(
        default=None,
        description="Name in results and file names: letters, digits, _ . - (null: from the file or host).",
    )
    url: Address = Field(
        description="Camera number or device, rtsp://, http:// or other stream, file, folder, glob, "
        "or synthetic://640x480@30?frames=100."
    )
    policy: Literal["auto", "every", "latest"] = Field(
        default="auto",
        description="every: keep all frames; latest: drop the oldest that waits; auto: every for files, else latest.",
    )
    rotate: Rotation = Field(
        default="auto", description="Turn the picture, degrees clockwise (auto: as the file's rotation tag says)."
    )
    detect_in: Crop | None = Field(
        default=None, description="Detect in this part of the picture only: left, top, width, height in pixels."
    )
    max_fps: float | None = Field(default=None, gt=0, description="Take at most so many pictures per second.")
    crop: Crop | None = Field(
        default=None, description="Take this part of the picture only: left, top, width, height in pixels."
    )
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="How RTSP sends pictures.")
    width: int | None = Field(default=None, ge=1, description="Of a camera's pictures (null: the camera's choice).")
    height: int | None = Field(default=None, ge=1, description="Of a camera's pictures (null: the camera's choice).")
    fps: float | None = Field(default=None, gt=0, description="Rate to ask a camera for (null: the camera's choice).")
    open_timeout_s: float = Field(default=5.0, gt=0, description="Connect anew if no picture has come by then.")
    read_timeout_s: float = Field(default=5.0, gt=0, description="Connect anew after such a silence.")
    give_up_after_s: float | None = Field(
        default=None, ge=0, description="End the run where a camera or stream is away for longer (null: never)."
    )
    decode_threads: int = Field(
        default=1,
        ge=1,
        description="Threads of a file's or stream's decoder; each above 1 makes a stream one picture later.",
    )
    hardware: Literal["cuda", "vaapi"] | None = Field(
        default=None, description="Decode files and streams by hardware where that works, else by software."
    )
    ffmpeg_options: Options = Field(
        default=(), description="FFmpeg's own options for opening a stream, each NAME=VALUE; they win over ours."
    )


class EngineSettings(Section):
    """What runs the models."""

    backend: Literal["auto", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"] = Field(
        default="auto",
        description="What runs the model (auto: TensorRT, TensorRT-RTX, OpenVINO, ONNX Runtime, in this order).",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        default="auto", description="Arithmetic (auto: what the model asks for, else the fastest that is safe here)."
    )
    device: Text = Field(
        default="auto",
        description="Where the model runs: CPU, or a GPU such as cuda:1 (auto: the first GPU, else the CPU).",
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads for inference (null: all cores).")
    requests: int | None = Field(
        default=None, ge=1, description="Frames in flight at once (null: the backend chooses)."
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Most pictures at once that a GPU engine is built for (null: what suits the model).",
    )
    cuda: Literal["auto", "cuda-python", "pycuda"] = Field(
        default="auto", description="Library that reaches the GPU (auto: cuda-python, else pycuda)."
    )
    cuda_graph: bool = Field(
        default=True, description="Record a GPU's work for a batch size once, and launch it as a whole from then on."
    )

    @field_validator("precision")
    @classmethod
    def _backend_has_it(cls, precision: str, info: ValidationInfo) -> str:
        backend = info.data.get("backend")
        if backend == "onnxruntime" and precision in ("bf16", "fp16"):
            raise wrong("does not work with backend onnxruntime: use fp32 or int8")
        if backend == "openvino" and precision == "fp16":
            raise wrong("does not work with backend openvino: on a CPU use bf16, fp32 or int8")
        if backend in ("tensorrt", "tensorrt-rtx") and precision == "bf16":
            raise wrong(f"does not work with backend {backend}: use fp32, fp16 or int8")
        return precision


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


class TrackSettings(Section):
    """Following objects from frame to frame: a later version."""

    enabled: NotYet = Field(
        default=False, description="Follow objects from frame to frame (not available in this version)."
    )


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

    @property
    def on(self) -> bool:
        """Whether faces are looked for."""
        return self.gallery is not None if self.enabled is None else self.enabled


class LatencySettings(Section):
    """How old a result may be."""

    max_age_ms: float | None = Field(
        default=None,
        gt=0,
        description="Drop frames of sources with policy latest that are older, milliseconds (null: never).",
    )
    objective_ms: float | None = Field(
        default=None,
        gt=0,
        description="Time from capture to delivery to hold for live sources, milliseconds, by stepping down the ladder "
        "(null: do nothing).",
    )
    percentile: float = Field(default=95, gt=0, le=99.9, description="Part of the frames that must hold it, percent.")
    ladder: Ladder = Field(
        default=("stylize", "segment", "detect_every_2", "detect_every_3", "smaller_model"),
        description="What to do without, first to last; all there are: stylize, segment, detect_every_2, "
        "detect_every_3, smaller_model.",
    )


class RenderSettings(Section):
    """Drawing the results into the picture."""

    enabled: bool = Field(default=True, description="Draw into the pictures that are shown and recorded.")
    boxes: bool = Field(default=True, description="Draw boxes.")
    labels: bool = Field(default=True, description="Write class and score at each box.")
    landmarks: bool = Field(default=False, description="Draw the landmarks of faces.")
    masks: bool = Field(default=True, description="Tint objects where the model gives their masks.")
    keypoints: bool = Field(default=True, description="Draw skeletons where the model gives keypoints.")
    hud: bool = Field(default=True, description="Write frame rate and latency into a corner.")
    thickness: int | None = Field(
        default=None, ge=1, le=20, description="Line width, pixels (null: from the picture's size)."
    )
    font_scale: float | None = Field(
        default=None, gt=0, le=20, description="Text size, 1 = OpenCV's own (null: from the picture's size)."
    )


class RecordSettings(Section):
    """A video file of the result."""

    shorthand = "path"
    path: VideoPath = Field(description="Video file, .mp4; of several sources each gets its own: out-<source>.mp4.")
    encoder: Literal["auto", "libx264", "h264_nvenc"] = Field(
        default="auto", description="H.264 encoder (auto: libx264, also in place of one that does not work here)."
    )
    preset: X264Preset = Field(default="superfast", description="Preset of libx264: slower makes smaller files.")
    crf: int = Field(default=23, ge=0, le=51, description="Constant rate factor: 0 is best and largest, 51 worst.")
    segment_s: float | None = Field(
        default=None, ge=1, description="Start a new file after this many seconds (null: never)."
    )
    layout: Literal["separate", "grid", "both"] = Field(
        default="separate", description="Of several sources: a file for each, one file with all in a grid, or both."
    )


class EventsSettings(Section):
    """A line of JSON for each frame."""

    shorthand = "path"
    path: FilePath = Field(description="JSON Lines file.")
    encodings: bool = Field(
        default=False, description="Write the encodings of faces, too: personal data, by which people can be found."
    )
    masks: bool = Field(default=False, description="Write the outlines of masks, too, where the model gives masks.")


class WindowSettings(Section):
    """A window on the screen."""

    shorthand = "enabled"
    enabled: bool = Field(default=True, description="Open the window.")
    title: Text = Field(default="frameloom", description="Title of the window.")


class FramesSettings(Section):
    """A picture file for each frame."""

    shorthand = "path"
    path: FolderPath = Field(description="Folder; made if it does not exist.")
    format: Literal["jpg", "png"] = Field(default="jpg", description="Picture format.")
    quality: int = Field(default=90, ge=1, le=100, description="JPEG quality.")
    every: int = Field(default=1, ge=1, description="Write every n-th frame.")


def _none_if_off(window: WindowSettings | None) -> WindowSettings | None:
    return window if window and window.enabled else None


class TraceSettings(Section):
    """Where every frame's time went."""

    shorthand = "path"
    path: FilePath = Field(description="JSON file, to be opened with ui.perfetto.dev or chrome://tracing.")


class SinksSettings(Section):
    """Where results go; a sink that is off is None."""

    record: RecordSettings | None = Field(default=None, description="Record a video: a path, or a mapping.")
    events: EventsSettings | None = Field(
        default=None, description="Write results as JSON Lines: a path, or a mapping."
    )
    window: Annotated[WindowSettings | None, AfterValidator(_none_if_off)] = Field(
        default=None, description="Show the result on the screen: true, or a mapping."
    )
    frames: FramesSettings | None = Field(default=None, description="Write pictures: a folder, or a mapping.")
    trace: TraceSettings | None = Field(
        default=None, description="Write each frame's waiting and working time at each station: a path, or a mapping."
    )

    def paths(self) -> dict[str, Path]:
        """The file or folder of each sink that has one."""
        sinks = {"record": self.record, "events": self.events, "frames": self.frames, "trace": self.trace}
        return {name: sink.path for name, sink in sinks.items() if sink is not None}


class Settings(Section):
    """Everything a run needs to know."""

    sources: Annotated[tuple[SourceSettings, ...], EmptyIsNone] = Field(
        default=(),
        strict=False,
        description="What to read: a list of videos, images, folders, globs or mappings.",
    )
    max_frames: int | None = Field(
        default=None, ge=1, description="Stop each source after this many frames (null: at its end)."
    )
    engine: EngineSettings = Field(default_factory=EngineSettings, description="What runs the models.")
    detect: DetectSettings = Field(default_factory=DetectSettings, description="Finding objects.")
    track: TrackSettings = Field(default_factory=TrackSettings, description="Following objects.")
    faces: FacesSettings = Field(default_factory=FacesSettings, description="Finding and recognising faces.")
    latency: LatencySettings = Field(default_factory=LatencySettings, description="How old a result may be.")
    render: RenderSettings = Field(default_factory=RenderSettings, description="Drawing the results into the picture.")
    sinks: SinksSettings = Field(default_factory=SinksSettings, description="Where results go.")

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
        first: dict[str, int] = {}
        again = [
            wrong_at((i, "name"), source.name, f"is also the name of source {first[source.name]}")
            for i, source in enumerate(sources)
            if source.name is not None and first.setdefault(source.name, i) != i
        ]
        if again:
            raise ValidationError.from_exception_data("sources", again)
        return sources

    @field_validator("sinks")
    @classmethod
    def _paths_differ(cls, sinks: SinksSettings, info: ValidationInfo) -> SinksSettings:
        clashes = []
        taken: dict[str, str] = {}
        for name, path in sinks.paths().items():
            if any(_reads(source.url, path) for source in info.data.get("sources", ())):
                clashes.append(wrong_at((name, "path"), path, "is also a source: it would be overwritten"))
            elif (other := taken.setdefault(os.path.realpath(path), name)) != name:
                clashes.append(wrong_at((name, "path"), path, f"is also sinks.{other}.path: name another file"))
        if clashes:
            raise ValidationError.from_exception_data("sinks", clashes)
        return sinks


def _reads(url: int | str, path: Path) -> bool:
    """Whether a source is that file, or a glob that finds it."""
    if isinstance(url, int) or url == "synthetic" or "://" in url.removeprefix("file://"):
        return False
    source = os.path.realpath(url.removeprefix("file://"))
    target = os.path.realpath(path)
    return source == target or PurePath(target).match(source)
