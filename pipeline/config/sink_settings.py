"""Settings of where results go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipeline.config.section import Section
from pipeline.config.values import (
    EventNames,
    FilePath,
    FolderPath,
    JsonPath,
    Options,
    Text,
    VideoPath,
    X264Preset,
    wrong,
)
from pipeline.sinks.file_names import DIRECTIVES, is_dated, wrong_directive

Port = Annotated[int, Field(ge=1, le=65535)]
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII)
"""Of which signs a header's name is made (RFC 9110, 5.6.2)."""
OUR_HEADERS = ("content-length", "transfer-encoding", "host", "connection")


def _topic(topic: str) -> str:
    if re.search(r"[+#\0-\x1f]", topic) or topic[0] in "$/" or topic[-1] == "/" or "//" in topic:
        raise wrong("is no topic: write levels such as home/cameras, without + and #")
    if len(topic.encode()) > 1000:
        raise wrong("is too long for a topic")
    return topic


Topic = Annotated[Text, AfterValidator(_topic)]


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

    @field_validator("path")
    @classmethod
    def _holds_times(cls, path: Path) -> Path:
        if (directive := wrong_directive(path)) is not None:
            known = " ".join(f"%{letter}" for letter in DIRECTIVES)
            raise wrong(f"holds {directive!r}, which stands for no time; these do: {known}")
        return path

    @model_validator(mode="after")
    def _has_several_files(self) -> RecordSettings:
        if (self.keep_s or self.keep_mb) and self.segment_s is None and not is_dated(self.path):
            key = "keep_s" if self.keep_s else "keep_mb"
            raise wrong(f"{key} needs segment_s, or times such as %Y%m%d-%H%M%S in path: there is only one file")
        return self


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
    topic: Topic = Field(
        default="frameloom",
        description="First part of all topics: <topic>/<source>/events, .../state, .../zones/<zone>, <topic>/status.",
    )
    on: EventNames = Field(default=("*",), description="Events to send.")
    frames: bool = Field(default=False, description="Send what is in each frame, too, to .../frames, while connected.")
    qos: Literal[0, 1, 2] = Field(default=1, description="How surely events arrive: 1 is at least once.")
    discovery: bool = Field(default=False, description="Tell Home Assistant of sources and zones.")
    discovery_prefix: Topic = Field(default="homeassistant", description="Topic that Home Assistant listens to.")
    keepalive_s: int = Field(
        default=30, ge=5, le=65535, description="A connection that is silent for twice as long is dead."
    )
    spool: FolderPath | None = Field(
        default=None, description="Folder where events wait for the broker (null: in the user's data folder)."
    )
    spool_mb: float = Field(default=64.0, gt=0, description="The oldest are given up, and counted, beyond this size.")

    @field_validator("host")
    @classmethod
    def _is_a_name(cls, host: str) -> str:
        if re.search(r"[\s/@]", host) or re.fullmatch(r"[^:]+:\d+", host):
            raise wrong("is no host: write its name alone; port, user and password have keys of their own")
        return host

    @model_validator(mode="after")
    def _goes_together(self) -> MqttSettings:
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise wrong("has certificates, but no tls: true")
        if self.key_file and not self.cert_file:
            raise wrong("has a key_file, but no cert_file")
        if self.password and not self.user:
            raise wrong("has a password, but no user")
        return self


class WebhookSettings(Section):
    """Events by HTTP POST."""

    shorthand = "url"
    url: Text = Field(description="http:// or https:// address that takes a JSON object.")
    on: EventNames = Field(default=("*",), description="Events to send.")
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

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_one = False
        if not is_one or re.search(r"[\s\0-\x1f]", url):
            raise wrong("is no address of http:// or https://")
        return url

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: tuple[str, ...]) -> tuple[str, ...]:
        for header in headers:
            name, _, value = header.partition("=")
            if not HEADER_NAME.fullmatch(name.strip()) or re.search(r"[\0-\x1f\x7f]", value):
                raise wrong("must be headers, each NAME=VALUE in one line")
            if name.strip().lower() in OUR_HEADERS or name.strip().lower().startswith("x-frameloom-"):
                raise wrong(f"must not hold {name.strip()}: that one is made here")
        return headers


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
