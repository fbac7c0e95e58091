"""Settings of what comes in and of what runs the models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.config.section import Section
from pipeline.config.values import Address, Crop, Ground, Options, Rotation, SourceName, Text, wrong


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
    ground: Ground | None = Field(
        default=None,
        description="Four or more places, each [x, y, east_m, north_m]: pixels, and where that is on the ground; gives "
        "speeds in m/s.",
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

    @field_validator("ground")
    @classmethod
    def _says_where_it_is(cls, ground: Ground | None) -> Ground | None:
        if ground is None:
            return None
        from pipeline.postprocess.zones.ground import ground_fault

        if fault := ground_fault(ground):
            raise wrong(fault)
        return ground


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
