"""Settings of where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.section import Section
from pipeline.config.values import EventName, FilePath, FolderPath, JsonPath, Options, Text, VideoPath, X264Preset

Port = Annotated[int, Field(ge=1, le=65535)]


class RecordSettings(Section):
    """A video file of the result."""

    shorthand = "path"
    path: VideoPath = Field(
        description="Video file, .mp4; of several sources each gets its own: out-<source>.mp4. %Y%m%d-%H%M%S and the "
        "like become the time at which a file begins."
    )
    encoder: Literal["auto", "libx264", "h264_nvenc"] = Field(
        default="auto", description="H.264 encoder (auto: libx264, also in place of one that does not work here)."
    )
    preset: X264Preset = Field(default="superfast", description="Preset of libx264: slower makes smaller files.")
    crf: int = Field(default=23, ge=0, le=51, description="Constant rate factor: 0 is best and largest, 51 worst.")
    segment_s: float | None = Field(
        default=None, ge=1, description="Start a new file after this many seconds (null: never)."
    )
    keep_s: float | None = Field(
        default=None, gt=0, description="With segment_s: delete files that ended so many seconds ago (null: never)."
    )
    keep_mb: float | None = Field(
        default=None, gt=0, description="With segment_s: delete the oldest when all take more, megabytes (null: never)."
    )
    layout: Literal["separate", "grid", "both"] = Field(
        default="separate", description="Of several sources: a file for each, one file with all in a grid, or both."
    )


class EventsSettings(Section):
    """A line of JSON for each frame."""

    shorthand = "path"
    path: FilePath = Field(description="JSON Lines file.")
    frames: bool = Field(default=True, description="Write a line for each frame, not for events only.")
    rotate_mb: float | None = Field(
        default=None, gt=0, description="Begin a new file at this size, megabytes; the old one is events.jsonl.1."
    )
    keep_files: int = Field(default=5, ge=1, description="With rotate_mb: so many old files are kept.")
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


class TraceSettings(Section):
    """Where every frame's time went."""

    shorthand = "path"
    path: FilePath = Field(description="JSON file, to be opened with ui.perfetto.dev or chrome://tracing.")


class CsvSettings(Section):
    """A row for each detection and face."""

    shorthand = "path"
    path: FilePath = Field(description="CSV file with a header.")


class MotSettings(Section):
    """Tracks as MOTChallenge text."""

    shorthand = "path"
    path: FilePath = Field(description="Text file; of several sources each gets its own: out-<source>.txt.")


class CocoSettings(Section):
    """Detections as COCO results."""

    shorthand = "path"
    path: JsonPath = Field(
        description="COCO results, .json; of several sources each gets its own: out-<source>.json. An image's id is "
        "the number in its file name, else the frame's number."
    )


class MqttSettings(Section):
    """Events to an MQTT broker."""

    shorthand = "host"
    host: Text = Field(description="Name or address of the broker.")
    port: Port | None = Field(default=None, description="Port of the broker (null: 1883, with tls 8883).")
    user: Text | None = Field(default=None, description="User name (null: none).")
    password: Text | None = Field(
        default=None, description="Password (null: what the variable FRAMELOOM_MQTT_PASSWORD holds, if it is set)."
    )
    tls: bool = Field(default=False, description="Encrypt the connection, and check the broker's certificate.")
    ca_file: FilePath | None = Field(default=None, description="Certificates to trust (null: the system's).")
    cert_file: FilePath | None = Field(default=None, description="Our own certificate (null: none).")
    key_file: FilePath | None = Field(default=None, description="Its key (null: in the same file).")
    client_id: Text | None = Field(default=None, description="Name of this client (null: frameloom-<host>-<topic>).")
    topic: Text = Field(
        default="frameloom",
        description="First part of all topics: <topic>/<source>/events, .../state, .../zones/<zone>, <topic>/status.",
    )
    on: tuple[EventName, ...] = Field(default=("*",), strict=False, description="Events to send.")
    frames: bool = Field(default=False, description="Send what is in each frame, too, to .../frames, while connected.")
    qos: Literal[0, 1, 2] = Field(default=1, description="How surely events arrive: 1 is at least once.")
    discovery: bool = Field(default=False, description="Tell Home Assistant of sources and zones.")
    discovery_prefix: Text = Field(default="homeassistant", description="Topic that Home Assistant listens to.")
    keepalive_s: int = Field(default=30, ge=5, le=65535, description="Notice a dead connection after 1.5 times that.")
    spool: FolderPath | None = Field(
        default=None, description="Folder where events wait for the broker (null: in the user's data folder)."
    )
    spool_mb: float = Field(default=64.0, gt=0, description="The oldest are given up, and counted, beyond this size.")


class WebhookSettings(Section):
    """Events by HTTP POST."""

    shorthand = "url"
    url: Text = Field(description="http:// or https:// address that takes a JSON object.")
    on: tuple[EventName, ...] = Field(default=("*",), strict=False, description="Events to send.")
    secret: Text | None = Field(
        default=None,
        description="Sign bodies with it, HMAC-SHA256 (null: what the variable FRAMELOOM_WEBHOOK_SECRET holds).",
    )
    headers: Options = Field(default=(), description="Further headers, each NAME=VALUE.")
    timeout_s: float = Field(default=5.0, gt=0, le=300, description="A request that takes longer has failed.")
    give_up_after_s: float = Field(
        default=3600.0, gt=0, description="An event that could not be sent for so long is given up, and counted."
    )
    spool: FolderPath | None = Field(
        default=None, description="Folder where events wait to be sent (null: in the user's data folder)."
    )
    spool_mb: float = Field(default=64.0, gt=0, description="The oldest are given up, and counted, beyond this size.")


class MetricsSettings(Section):
    """Figures and health over HTTP."""

    shorthand = "port"
    port: Port = Field(description="Port of /metrics (Prometheus), /healthz, /readyz and /livez.")
    host: Text = Field(default="127.0.0.1", description="Address to listen at; 0.0.0.0 is reachable from outside.")
    max_frame_age_s: float = Field(
        default=10.0, gt=0, description="/healthz fails where a live source gave no frame for so long."
    )


class PublishSettings(Section):
    """The annotated picture as a stream."""

    shorthand = "url"
    url: Text = Field(
        description="rtsp:// or rtmp:// address of a media server; {source} in it becomes the source's name, and must "
        "be there with several."
    )
    preset: X264Preset = Field(default="ultrafast", description="Preset of libx264.")
    crf: int = Field(default=26, ge=0, le=51, description="Constant rate factor: 0 is best and largest, 51 worst.")
    max_kbps: int | None = Field(default=None, ge=50, description="Most kilobits per second (null: no limit).")
    keyframe_s: float = Field(default=1.0, gt=0, le=10, description="A viewer who joins waits for so long at most.")


def _none_if_off(window: WindowSettings | None) -> WindowSettings | None:
    return window if window and window.enabled else None


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
    csv: CsvSettings | None = Field(default=None, description="Write a table of what was found: a path, or a mapping.")
    mot: MotSettings | None = Field(
        default=None, description="Write tracks as MOTChallenge text: a path, or a mapping."
    )
    coco: CocoSettings | None = Field(default=None, description="Write COCO results: a path, or a mapping.")
    mqtt: MqttSettings | None = Field(default=None, description="Send events to an MQTT broker: a host, or a mapping.")
    webhook: WebhookSettings | None = Field(
        default=None, description="Send events to an HTTP address: the address, or a mapping."
    )
    metrics: MetricsSettings | None = Field(
        default=None, description="Answer Prometheus and health checks: a port, or a mapping."
    )
    publish: PublishSettings | None = Field(
        default=None, description="Send the annotated picture to a media server: its address, or a mapping."
    )

    def paths(self) -> dict[str, Path]:
        """The file or folder of each sink that has one."""
        sinks = {
            "record": self.record,
            "events": self.events,
            "frames": self.frames,
            "trace": self.trace,
            "csv": self.csv,
            "mot": self.mot,
            "coco": self.coco,
        }
        return {name: sink.path for name, sink in sinks.items() if sink is not None}
