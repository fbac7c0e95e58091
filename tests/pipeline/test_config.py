"""Settings: defaults, every message with its place, options, and that nothing but a ConfigError ever comes out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config.input_settings import SourceSettings
from pipeline.config.keys import Key, dotted, leaves, section_at
from pipeline.config.load import Loaded, Override, load_settings, parse_set, parse_sources
from pipeline.config.positions import MAX_VALUES, read_yaml
from pipeline.config.section import Section
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError

CONFIG_YAML = Path(__file__).parents[2] / "config.yaml"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, *sets: str) -> Loaded:
    Path("config.yaml").write_text(text, encoding="utf-8")
    return load_settings(Path("config.yaml"), [parse_set(item) for item in sets])


def message(text: str, *sets: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, *sets)
    assert caught.value.request_was_wrong
    return str(caught.value)


# --- what is accepted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "{}", "\ufeffdetect:\n", "detect:\nsinks:\n"])
def test_an_empty_file_or_section_has_the_defaults(text: str) -> None:
    assert load(text).settings == Settings() == load_settings().settings


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("sources: [0]", "sources.0.url", 0),
        ("sources: ['*.mp4']", "sources.0.url", "*.mp4"),
        ("sources: [{url: a.mp4, name: é-1}]", "sources.0.name", "é-1"),
        ("sources: [{url: a.mp4, rotate: 90}]", "sources.0.rotate", 90),
        ("sources:", "sources", ()),
        ("detect: {confidence: 1}", "detect.confidence", 1.0),
        ("detect: {confidence: 0}", "detect.confidence", 0.0),
        ("detect: {classes: car}", "detect.classes", ("car",)),
        ("detect: {classes: [car, 'on']}", "detect.classes", ("car", "on")),
        ("detect: {classes: }", "detect.classes", ()),
        ("detect: {input_size: 640}", "detect.input_size", (640, 640)),
        ("detect: {input_size: [384, 640]}", "detect.input_size", (384, 640)),
        ("detect: {model: 2024-01-01}", "detect.model", "2024-01-01"),
        ("detect: {model: 1:30}", "detect.model", "1:30"),
        ("segment: true", "segment.enabled", True),
        ("segment: {every: 3}", "segment.enabled", True),
        ("stylize: the-scream", "stylize.model", "the-scream"),
        ("stylize: the-scream", "stylize.enabled", True),
        ("stylize: true", "stylize.enabled", True),
        ("stylize: {enabled: no, model: the-scream}", "stylize.enabled", False),
        ("detect: {tiles: auto}", "detect.tiles", "auto"),
        ("detect: {tiles: 2x3}", "detect.tiles", (2, 3)),
        ("detect: {tiles: 640}", "detect.tiles", 640),
        ("detect: {tiles: 1X8, full_frame: off}", "detect.full_frame", False),
        ("sources: [{url: a, detect_in: [0, 10, 320, 200]}]", "sources.0.detect_in", (0, 10, 320, 200)),
        ("engine: {backend: tensorrt, precision: int8}", "engine.precision", "int8"),
        ("engine: {backend: tensorrt-rtx, precision: fp16}", "engine.precision", "fp16"),
        ("engine: {precision: bf16}", "engine.precision", "bf16"),
        ("engine: {cuda: pycuda, cuda_graph: off}", "engine.cuda_graph", False),
        ("engine: {batch: 8}", "engine.batch", 8),
        ("sinks: {record: a.MP4}", "sinks.record.path", Path("a.MP4")),
        ("sinks: {record: {path: a.mp4, crf: 51}}", "sinks.record.crf", 51),
        ("sinks: {window: on}", "sinks.window.title", "frameloom"),
        ("sinks: {window: {title: x}}", "sinks.window.enabled", True),
        ("sinks: {window: off}", "sinks.window", None),
        ("sinks: {window: {enabled: false}}", "sinks.window", None),
        ("sinks: {frames: out, events: e.jsonl}", "sinks.frames.path", Path("out")),
        ("x: &x", None, None),
        ("sources: [&a {url: a, rotate: 90}, {<<: *a, url: b}]", "sources.1.rotate", 90),
        ("sources: [&a {url: a, rotate: 90}, &b {url: b}, {<<: [*b, *a]}]", "sources.2.url", "b"),
        ("sources: [&a {url: a}, *a]", "sources.1.url", "a"),
    ],
)
def test_a_short_or_a_long_form_becomes_one_typed_value(text: str, key: str | None, value: object) -> None:
    if key is None:
        assert "unknown key 'x'" in message(text)
        return
    values = {dotted(at): value for at, value, _ in leaves(load(text).settings)}
    assert values[key] == value
    assert type(values[key]) is type(value) or isinstance(value, Path)


def test_a_leading_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    settings = load("sources: [~/in.mp4]\nsinks: {record: ~/out.mp4}").settings
    assert settings.sources[0].url == "/home/ann/in.mp4"
    assert settings.sinks.paths() == {"record": Path("/home/ann/out.mp4")}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().detect.confidence = 0.5


# --- what is refused, with its place ----------------------------------------------------------------------------

MISTAKES = {
    "too large": (
        "detect:\n  confidence: 1.4  # high\n",
        "config.yaml:2:15: detect.confidence: 1.4 is too large: at most 1 [number 0..1]\n"
        "    2 |   confidence: 1.4  # high\n"
        "      |               ^^^",
    ),
    "too small": (
        "max_frames: 0",
        "config.yaml:1:13: max_frames: 0 is too small: at least 1 [whole number from 1 or null]\n"
        "    1 | max_frames: 0\n"
        "      |             ^",
    ),
    "not over": (
        "latency: {max_age_ms: 0}",
        "config.yaml:1:23: latency.max_age_ms: 0 is too small: more than 0 [number over 0 or null]\n"
        "    1 | latency: {max_age_ms: 0}\n"
        "      |                       ^",
    ),
    "not finite": (
        "detect: {iou: .nan}",
        "config.yaml:1:15: detect.iou: nan is not finite [number 0..1]\n"
        "    1 | detect: {iou: .nan}\n"
        "      |               ^^^^",
    ),
    "unknown key": (
        "detect:\n  confidance: 1.4",
        "config.yaml:2:3: unknown key 'confidance' in detect; did you mean 'confidence'?\n"
        "    2 |   confidance: 1.4\n"
        "      |   ^^^^^^^^^^",
    ),
    "key of another section": (
        "model: x",
        "config.yaml:1:1: unknown key 'model'; did you mean detect.model or segment.model or stylize.model?\n"
        "    1 | model: x\n      | ^^^^^",
    ),
    "unheard-of key": (
        "sinks: {zzz: 1}",
        "config.yaml:1:9: unknown key 'zzz' in sinks; the keys are record, events, window, frames, trace, csv, mot, "
        "coco, mqtt, webhook, metrics, publish\n"
        "    1 | sinks: {zzz: 1}\n"
        "      |         ^^^",
    ),
    "key in a list": (
        "sources:\n  - url: a\n    nmae: b",
        "config.yaml:3:5: unknown key 'nmae' in sources.0; did you mean 'name'?\n    3 |     nmae: b\n      |     ^^^^",
    ),
    "missing key": (
        "sources:\n  - name: door\n",
        "config.yaml:2:5: sources.0: the key 'url' is missing\n    2 |   - name: door\n      |     ^^^^^^^^^^",
    ),
    "wrong choice": (
        "engine: {backend: OpenVno}",
        "config.yaml:1:19: engine.backend: 'OpenVno' is not one of the choices; did you mean 'openvino'? "
        "[auto|openvino|onnxruntime|tensorrt|tensorrt-rtx]\n"
        "    1 | engine: {backend: OpenVno}\n"
        "      |                   ^^^^^^^",
    ),
    "choice in quotes": (
        "sources: [{url: a, rotate: '90'}]",
        "config.yaml:1:28: sources.0.rotate: '90' is text: write 90 without quotes [auto|0|90|180|270]\n"
        "    1 | sources: [{url: a, rotate: '90'}]\n"
        "      |                            ^^^^",
    ),
    "false is not 0": (
        "sources: [{url: a, rotate: off}]",
        "config.yaml:1:28: sources.0.rotate: false is not one of the choices [auto|0|90|180|270]\n"
        "    1 | sources: [{url: a, rotate: off}]\n"
        "      |                            ^^^",
    ),
    "text for a number": (
        "detect: {iou: '0.4'}",
        "config.yaml:1:15: detect.iou: '0.4' is text: write 0.4 without quotes [number 0..1]\n"
        "    1 | detect: {iou: '0.4'}\n"
        "      |               ^^^^^",
    ),
    "exponent without a point": (
        "latency: {max_age_ms: 1e3}",
        "config.yaml:1:23: latency.max_age_ms: '1e3' is text: write 1000.0 without quotes [number over 0 or null]\n"
        "    1 | latency: {max_age_ms: 1e3}\n"
        "      |                       ^^^",
    ),
    "text for true": (
        "render: {hud: 'no'}",
        "config.yaml:1:15: render.hud: 'no' is text: write no without quotes [true|false]\n"
        "    1 | render: {hud: 'no'}\n"
        "      |               ^^^^",
    ),
    "bool for a number": (
        "engine: {threads: yes}",
        "config.yaml:1:19: engine.threads: true is not a whole number [whole number from 1 or null]\n"
        "    1 | engine: {threads: yes}\n"
        "      |                   ^^^",
    ),
    "fraction for a whole number": (
        "engine: {threads: 2.0}",
        "config.yaml:1:19: engine.threads: 2.0 is not a whole number: write 2 [whole number from 1 or null]\n"
        "    1 | engine: {threads: 2.0}\n"
        "      |                   ^^^",
    ),
    "YAML's bool for text": (
        "detect:\n  model: off",
        "config.yaml:2:10: detect.model: false is not text: YAML reads on, off, yes and no as true or false; "
        "put it in quotes [text]\n"
        "    2 |   model: off\n"
        "      |          ^^^",
    ),
    "number for text": (
        "sources: [{url: a, name: 7}]",
        "config.yaml:1:26: sources.0.name: 7 is not text: put it in quotes [text or null]\n"
        "    1 | sources: [{url: a, name: 7}]\n"
        "      |                          ^",
    ),
    "nothing for a value": (
        "detect:\n  iou:\n",
        "config.yaml:2:7: detect.iou: null is not a number: leave the key out for its default [number 0..1]\n"
        "    2 |   iou:\n"
        "      |       ^",
    ),
    "value for a section": (
        "latency: 5",
        "config.yaml:1:10: latency: 5 is not a mapping [max_age_ms, objective_ms, percentile, ladder]\n"
        "    1 | latency: 5\n      |          ^",
    ),
    "value for a list": (
        "sources: a.mp4",
        "config.yaml:1:10: sources: 'a.mp4' is not a list: write [a.mp4] [list]\n"
        "    1 | sources: a.mp4\n"
        "      |          ^^^^^",
    ),
    "mapping for a value": (
        "detect:\n  iou:\n    a: 1\n    b: 2",
        "config.yaml:3:5: detect.iou: a mapping is not a number [number 0..1]\n    3 |     a: 1\n      |     ^^^^",
    ),
    "name with a space": (
        "sources: [{url: a, name: b c}]",
        "config.yaml:1:26: sources.0.name: 'b c' has other characters than letters, digits, _ . - [text or null]\n"
        "    1 | sources: [{url: a, name: b c}]\n"
        "      |                          ^^^",
    ),
    "negative camera": (
        "sources: [-1]",
        "config.yaml:1:11: sources.0.url: -1 is no camera: the first one is 0\n"
        "    1 | sources: [-1]\n"
        "      |           ^^",
    ),
    "input size between steps": (
        "detect: {input_size: [640, 650]}",
        "config.yaml:1:28: detect.input_size.1: 650 is no multiple of 32: the nearest is 640 "
        "[whole number 32..4096 in steps of 32 or list of 2 or null]\n"
        "    1 | detect: {input_size: [640, 650]}\n"
        "      |                            ^^^",
    ),
    "one input size": (
        "detect: {input_size: 650}",
        "config.yaml:1:22: detect.input_size: 650 is no multiple of 32: the nearest is 640 "
        "[whole number 32..4096 in steps of 32 or list of 2 or null]\n"
        "    1 | detect: {input_size: 650}\n"
        "      |                      ^^^",
    ),
    "half an input size": (
        "detect: {input_size: [640]}",
        "config.yaml:1:22: detect.input_size: too few values "
        "[whole number 32..4096 in steps of 32 or list of 2 or null]\n"
        "    1 | detect: {input_size: [640]}\n"
        "      |                      ^^^^^",
    ),
    "input size of three": (
        "detect: {input_size: [64, 64, 3]}",
        "config.yaml:1:22: detect.input_size: [64, 64, 3] has 3 values: at most 2 "
        "[whole number 32..4096 in steps of 32 or list of 2 or null]\n"
        "    1 | detect: {input_size: [64, 64, 3]}\n"
        "      |                      ^^^^^^^^^^^",
    ),
    "not an .mp4": (
        "sinks: {record: out.avi}",
        "config.yaml:1:17: sinks.record.path: 'out.avi' must end in .mp4\n"
        "    1 | sinks: {record: out.avi}\n"
        "      |                 ^^^^^^^",
    ),
    "folder for a file": (
        "sinks: {events: {path: ..}}",
        "config.yaml:1:24: sinks.events.path: '..' is a folder: name a file in it\n"
        "    1 | sinks: {events: {path: ..}}\n"
        "      |                        ^^",
    ),
    "file for a folder": (
        "sinks: {frames: config.yaml}",
        "config.yaml:1:17: sinks.frames.path: 'config.yaml' is a file: name a folder\n"
        "    1 | sinks: {frames: config.yaml}\n"
        "      |                 ^^^^^^^^^^^",
    ),
    "empty path": (
        "sinks: {frames: ''}",
        "config.yaml:1:17: sinks.frames.path: '' names no file\n"
        "    1 | sinks: {frames: ''}\n"
        "      |                 ^^",
    ),
    "empty text": (
        "detect: {model: ''}",
        "config.yaml:1:17: detect.model: '' is empty [text]\n    1 | detect: {model: ''}\n      |                 ^^",
    ),
    "OpenVINO in fp16": (
        "engine:\n  precision: fp16\n  backend: openvino",
        "config.yaml:2:14: engine.precision: 'fp16' does not work with backend openvino: on a CPU use bf16, "
        "fp32 or int8\n"
        "    2 |   precision: fp16\n"
        "      |              ^^^^",
    ),
    "ONNX Runtime in bf16": (
        "engine: {backend: onnxruntime, precision: bf16}",
        "config.yaml:1:43: engine.precision: 'bf16' does not work with backend onnxruntime: "
        "use fp32 or int8\n"
        "    1 | engine: {backend: onnxruntime, precision: bf16}\n"
        "      |                                           ^^^^",
    ),
    "TensorRT in bf16": (
        "engine: {backend: tensorrt-rtx, precision: bf16}",
        "config.yaml:1:44: engine.precision: 'bf16' does not work with backend tensorrt-rtx: "
        "use fp32, fp16 or int8\n"
        "    1 | engine: {backend: tensorrt-rtx, precision: bf16}\n"
        "      |                                            ^^^^",
    ),
    "no picture at once": (
        "engine: {batch: 0}",
        "config.yaml:1:17: engine.batch: 0 is too small: at least 1 [whole number 1..256 or null]\n"
        "    1 | engine: {batch: 0}\n"
        "      |                 ^",
    ),
    "another CUDA library": (
        "engine: {cuda: cupy}",
        "config.yaml:1:16: engine.cuda: 'cupy' is not one of the choices [auto|cuda-python|pycuda]\n"
        "    1 | engine: {cuda: cupy}\n"
        "      |                ^^^^",
    ),
    "one name twice": (
        "sources:\n  - {url: a, name: x}\n  - {url: b, name: x}",
        "config.yaml:3:20: sources.1.name: 'x' is also the name of source 0\n"
        "    3 |   - {url: b, name: x}\n"
        "      |                    ^",
    ),
    "one file twice": (
        "sinks:\n  record: a.mp4\n  events: ./a.mp4",
        "config.yaml:3:11: sinks.events.path: 'a.mp4' is also sinks.record.path: name another file\n"
        "    3 |   events: ./a.mp4\n"
        "      |           ^^^^^^^",
    ),
    "recording over a source": (
        "sources: [x/../a.mp4]\nsinks:\n  record: {path: a.mp4}",
        "config.yaml:3:18: sinks.record.path: 'a.mp4' is also a source: it would be overwritten\n"
        "    3 |   record: {path: a.mp4}\n"
        "      |                  ^^^^^",
    ),
    "recording over a globbed source": (
        "sources: ['*.mp4']\nsinks: {record: a.mp4}",
        "config.yaml:2:17: sinks.record.path: 'a.mp4' is also a source: it would be overwritten\n"
        "    2 | sinks: {record: a.mp4}\n"
        "      |                 ^^^^^",
    ),
    "duplicate key": (
        "max_frames: 1\ndetect:\nmax_frames: 2",
        "config.yaml:3:1: max_frames: the key is already in line 1\n    3 | max_frames: 2\n      | ^^^^^^^^^^",
    ),
    "key that is a list": (
        "? [a]\n: 1",
        "config.yaml:1:3: a key must be text\n    1 | ? [a]\n      |   ^^^",
    ),
    "key that YAML takes for a bool": (
        "on: 1",
        "config.yaml:1:1: unknown key 'on'; did you mean clips.on?\n    1 | on: 1\n      | ^^",
    ),
    "merge of a number": (
        "detect: {<<: 3}",
        "config.yaml:1:14: detect: << merges mappings only\n    1 | detect: {<<: 3}\n      |              ^",
    ),
    "top-level list": (
        "- a.mp4\n",
        "config.yaml:1:1: the file must be a mapping, such as 'max_frames: 100'\n    1 | - a.mp4\n      | ^^^^^^^",
    ),
    "top-level text": (
        "hello world",
        "config.yaml:1:1: the file must be a mapping, such as 'max_frames: 100'\n"
        "    1 | hello world\n"
        "      | ^^^^^^^^^^^",
    ),
    "tab": (
        "detect:\n\tiou: 0.4",
        "config.yaml:2:1: not valid YAML: a tab; YAML is indented with spaces\n    2 |  iou: 0.4\n      | ^",
    ),
    "wrong indentation": (
        "detect:\n  iou: 0.4\n confidence: 0.3",
        "config.yaml:3:2: not valid YAML: expected <block end>, but found '<block mapping start>'\n"
        "    3 |  confidence: 0.3\n"
        "      |  ^",
    ),
    "list that never ends": (
        "detect:\n  classes: [car\n",
        "config.yaml:2:12: not valid YAML: while parsing a flow sequence: not closed\n"
        "    2 |   classes: [car\n"
        "      |            ^",
    ),
    "question mark between brackets": (
        "sources: [synthetic://64x64@9?frames=1]",
        "config.yaml:1:30: not valid YAML: expected ',' or ']', but got '?'; "
        "between brackets, a text with ? in it needs quotes\n"
        "    1 | sources: [synthetic://64x64@9?frames=1]\n"
        "      |                              ^",
    ),
    "unknown alias": (
        "detect: *x",
        "config.yaml:1:9: not valid YAML: found undefined alias 'x'\n    1 | detect: *x\n      |         ^",
    ),
    "two documents": (
        "max_frames: 1\n---\nmax_frames: 2",
        "config.yaml:2:1: not valid YAML: but found another document\n    2 | ---\n      | ^",
    ),
    "control character": (
        "a: 1\nb: \x07",
        "config.yaml:2:4: not valid YAML: character U+0007 is not allowed\n    2 | b: \\x07\n      |    ^^^^",
    ),
    "code point that does not exist": (
        '"\\UFFFFFFFF": 1',
        'config.yaml:1:4: not valid YAML: an escape that is no character\n    1 | "\\UFFFFFFFF": 1\n      |    ^',
    ),
    "tag": (
        "detect: {model: !!python/name:os.system x}",
        "config.yaml:1:17: detect.model: the tag !!python/name:os.system is not supported\n"
        "    1 | detect: {model: !!python/name:os.system x}\n"
        "      |                 ^^^^^^^^^^^^^^^^^^^^^^^^^",
    ),
    "value that its tag cannot hold": (
        "max_frames: !!int x",
        "config.yaml:1:13: max_frames: 'x' is no int\n    1 | max_frames: !!int x\n      |             ^^^^^^^",
    ),
    "number past 64 bits": (
        "max_frames: 99999999999999999999",
        "config.yaml:1:13: max_frames: the number is too large\n"
        "    1 | max_frames: 99999999999999999999\n"
        "      |             ^^^^^^^^^^^^^^^^^^^^",
    ),
    "half a surrogate pair": (
        'detect: {model: "\\uD800"}',
        "config.yaml:1:17: detect.model: contains characters that are no text\n"
        '    1 | detect: {model: "\\uD800"}\n'
        "      |                 ^^^^^^^^",
    ),
    "wide characters before the place": (
        "detect: {model: 検出, iou: 2}",
        "config.yaml:1:26: detect.iou: 2 is too large: at most 1 [number 0..1]\n"
        "    1 | detect: {model: 検出, iou: 2}\n"
        "      |                            ^",
    ),
    "password in the line": (
        "sources: [{url: rtsp://ann:secret@cam/1, rotat: 0}]",
        "config.yaml:1:42: unknown key 'rotat' in sources.0; did you mean 'rotate'?\n"
        "    1 | sources: [{url: rtsp://ann:******@cam/1, rotat: 0}]\n"
        "      |                                          ^^^^^",
    ),
    "escape sequence in a key": (
        '"\\e[31m": 1',
        "config.yaml:1:1: unknown key '\\x1b[31m'; the keys are sources, max_frames, engine, detect, track, faces, "
        "segment, stylize, zones, clips, blur, latency, render, sinks\n"
        '    1 | "\\e[31m": 1\n'
        "      | ^^^^^^^^",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_shown_at_its_place(text: str, expected: str) -> None:
    assert message(text) == expected


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
sources: [{url: a, name: x}, {url: b, name: x}]
detect: {iou: 2, confidance: 0}
sinks: {record: a.mp4, events: a.mp4}
detect: 3
engine: {precision: fp16, backend: openvino}
"""
    heads = [line.split(": ")[:2] for line in message(text, "max_frames=0").splitlines() if " | " not in line]
    assert heads == [
        ["config.yaml:1:45", "sources.1.name"],
        ["config.yaml:2:15", "detect.iou"],
        ["config.yaml:2:18", "unknown key 'confidance' in detect; did you mean 'confidence'?"],
        ["config.yaml:3:32", "sinks.events.path"],
        ["config.yaml:4:1", "detect"],
        ["config.yaml:5:21", "engine.precision"],
        ["--set max_frames=0", "max_frames"],
    ]


def test_a_long_line_is_cut_around_the_place() -> None:
    text = "sources: [" + "a, " * 1000 + "{url: b, zzz: 1}]"
    head, line, carets = message(text).splitlines()
    assert head.startswith("config.yaml:1:3020: unknown key 'zzz'")
    assert len(line) < 120
    assert line[carets.index("^") :].startswith("zzz")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, "x.yaml: No such file or directory"),
        (b"\x00\x00\x00\x18ftypmp42", "x.yaml: a binary file, not a configuration in YAML"),
        (b"a: 1\nb: \xe9", "x.yaml: byte 0xe9 in line 2 is not UTF-8"),
        (b"#" * 1_000_001, "x.yaml: over 1000000 bytes, too large for a configuration"),
        (b"x: " + b"[" * 5000, "x.yaml: nested too deeply, or an alias contains itself"),
        (b"x: &a [*a]", "x.yaml: nested too deeply, or an alias contains itself"),
        (b"x: &a {<<: *a}", "x.yaml: nested too deeply, or an alias contains itself"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(data: bytes | None, expected: str) -> None:
    if data is not None:
        Path("x.yaml").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_settings(Path("x.yaml"))
    assert str(caught.value) == expected


@pytest.mark.parametrize(("path", "expected"), [(".", ".: Is a directory"), ("a\0b", "a\\x00b: embedded null byte")])
def test_a_path_that_is_no_file_is_one_line(path: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(Path(path))
    assert str(caught.value) == expected


def test_aliases_that_explode_are_refused() -> None:
    lists = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lists += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert message("\n".join(lists)) == f"config.yaml: more than {MAX_VALUES} values, counting each use of an alias"


# --- options ----------------------------------------------------------------------------------------------------


def test_options_win_over_the_file_and_later_ones_over_earlier_ones() -> None:
    loaded = load("detect:\n  iou: 0.5\n  model: a\n", "detect.iou=0.6", "detect.iou=0.7")
    assert loaded.settings.detect.iou == 0.7
    assert {key: str(origin) for key, origin in loaded.origins.items() if key.startswith("detect.")} == {
        "detect.enabled": "default",
        "detect.model": "config.yaml:3:3",
        "detect.confidence": "default",
        "detect.iou": "--set detect.iou=0.7",
        "detect.classes": "default",
        "detect.class_agnostic": "default",
        "detect.nms": "default",
        "detect.max_detections": "default",
        "detect.input_size": "default",
        "detect.every": "default",
        "detect.between": "default",
        "detect.when": "default",
        "detect.motion_area": "default",
        "detect.motion_hold_s": "default",
        "detect.keep_alive_s": "default",
        "detect.tiles": "default",
        "detect.tile_overlap": "default",
        "detect.full_frame": "default",
        "detect.on_overload": "default",
        "detect.smaller_model": "default",
    }


@pytest.mark.parametrize(
    ("text", "sets", "key", "value", "origin"),
    [
        ("sources: [a, b]", ["sources.1.name=x"], "sources.1.name", "x", "--set sources.1.name=x"),
        ("sources: [a, b]", ["sources.1.name=x"], "sources.1.url", "b", "config.yaml:1:14"),
        ("sources: [a]", ["sources.1=b"], "sources.1.url", "b", "--set sources.1=b"),
        ("", ["sources.0.url=b"], "sources.0.url", "b", "--set sources.0.url=b"),
        ("sinks: {record: a.mp4}", ["sinks.record.crf=1"], "sinks.record.path", Path("a.mp4"), "config.yaml:1:9"),
        ("sinks: {record: a.mp4}", ["sinks.record.crf=1"], "sinks.record.crf", 1, "--set sinks.record.crf=1"),
        ("sinks: {record: {path: a.mp4, crf: 3}}", ["sinks.record=b.mp4"], "sinks.record.crf", 23, "default"),
        ("sinks: {record: a.mp4}", ["sinks.record="], "sinks.record", None, "--set sinks.record="),
        ("", ["sinks.window.title=x"], "sinks.window.enabled", True, "default"),
        ("detect: {classes: [a]}", ["detect.classes.0=b"], "detect.classes", ("b",), "--set detect.classes.0=b"),
        ("detect:", ["detect.iou=1"], "detect.iou", 1.0, "--set detect.iou=1"),
        ("detect: {iou: 0.1}", ["detect={model: x}"], "detect.model", "x", "--set detect={model: x}"),
        ("detect: {iou: 0.1}", ["detect={model: x}"], "detect.iou", 0.45, "default"),
        ("", ["sources=['rtsp://h:554/x?a=b']"], "sources.0.url", "rtsp://h:554/x?a=b", None),
    ],
)
def test_any_key_can_be_set(text: str, sets: list[str], key: str, value: object, origin: str | None) -> None:
    loaded = load(text, *sets)
    assert {dotted(at): value for at, value, _ in leaves(loaded.settings)}[key] == value
    assert str(loaded.origins[key]) == (origin or f"--set {sets[0]}")


def test_an_option_of_the_command_line_takes_its_value_as_it_is() -> None:
    loaded = load_settings(None, [Override("detect.model", "on", "--model"), Override("sources", ("a", "b"), "SOURCE")])
    assert loaded.settings.detect.model == "on"
    assert [source.url for source in loaded.settings.sources] == ["a", "b"]
    assert (str(loaded.origins["detect.model"]), str(loaded.origins["sources.1.url"])) == ("--model", "SOURCE")


def test_an_option_may_be_a_ready_made_section() -> None:
    door = SourceSettings(url="a.mp4", name="door")
    assert load_settings(None, [Override("sources", [door], "sources")]).settings.sources == (door,)


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="detect"):
        load_settings(None, [Override("detect", {1: 2}, "detect")])


@pytest.mark.parametrize(
    ("text", "item", "expected"),
    [
        ("", "detect.confidence=1.4", "detect.confidence: 1.4 is too large: at most 1 [number 0..1]"),
        (
            "",
            "detect.tile_overlap=0.9",
            "detect.tile_overlap: 0.9 is too large: less than 0.9 [number from 0 to under 0.9]",
        ),
        (
            "",
            "detect.full_frame=false",
            "detect.full_frame: false leaves nothing to detect in without detect.tiles: set those, or leave this true",
        ),
        *(
            (
                "",
                f"detect.tiles={value}",
                f"detect.tiles: {seen} must be auto, ROWSxCOLUMNS such as 2x3 (at most 256 in all), "
                "or a side in pixels, 32..8192",
            )
            for value, seen in {
                "20": "20",
                "big": "'big'",
                "0x3x2": "'0x3x2'",
                "0": "0",
                "17x16": "'17x16'",
                "true": "true",
                "[2, 3]": "[2, 3]",
            }.items()
        ),
        *(
            ("", f"detect.tiles={text}", f"detect.tiles: '{text}' has {said}: write at least 1 of each, such as 2x3")
            for text, said in {
                "0x2": "0 rows and 2 columns",
                "0x40": "0 rows and 40 columns",
                "2x0": "2 rows and 0 columns",
            }.items()
        ),
        ("", "detect.confidance=1", "unknown key 'confidance' in detect; did you mean 'confidence'?"),
        ("", "detct.iou=1", "unknown key 'detct'; did you mean 'detect'?"),
        ("", "sinks.record.crf=1", "sinks.record: the key 'path' is missing"),
        ("sources: [a]", "sources.5.name=x", "sources is a list of 1: '5' must be 0..1"),
        ("sources: [a]", "sources.name=x", "sources is a list of 1: 'name' must be 0..1"),
        ("detect: {iou: 0.5}", "detect.iou.x=1", "detect.iou is 0.5, which has no key 'x'"),
        (
            "",
            "x" + ".x" * 2000 + "=1",
            "unknown key 'x'; the keys are sources, max_frames, engine, detect, track, "
            "faces, segment, stylize, zones, clips, blur, latency, render, sinks",
        ),
        ("", "detect.iou", "write KEY=VALUE, such as detect.confidence=0.4"),
        ("", "=1", "write KEY=VALUE, such as detect.confidence=0.4"),
        ("", "detect.classes=[a", "not valid YAML: while parsing a flow sequence: not closed"),
        ("", "detect={iou: 1, iou: 2}", "iou: the key is already in line 1"),
        ("", "sinks.record=rtsp://u:***@h", "sinks.record.path: 'rtsp://u:***@h' must end in .mp4"),
    ],
)
def test_a_mistake_in_an_option_names_the_option(text: str, item: str, expected: str) -> None:
    assert message(text, item.replace("***", "secret")) == f"--set {item}: {expected}"


# --- config.yaml ------------------------------------------------------------------------------------------------


def uncommented(text: str) -> str:
    """config.yaml with its commented-out long forms in place of the short ones."""
    text = re.sub(r"^( *)#(?=  |[a-z])", r"\1", text, flags=re.MULTILINE)
    return re.sub(r"^( *)(\w+): (null|\[\])\n(?=\1\2:)", "", text, flags=re.MULTILINE)


def fields(section: type[Section] = Settings, at: Key = ()) -> Iterator[tuple[str, Any]]:
    """Every settable key, lists by their first entry, with its field."""
    for name, field in section.keys().items():
        key = (*at, name)
        inner = next((found for tail in ((), (0,)) if (found := section_at((*key, *tail)))), None)
        yield dotted(key), field
        if inner:
            yield from fields(inner, (*key, 0) if section_at(key) is None else key)


def test_config_yaml_holds_exactly_the_defaults() -> None:
    loaded = load_settings(CONFIG_YAML)
    assert loaded.settings == Settings()
    assert all(str(origin).startswith(f"{CONFIG_YAML}:") for origin in loaded.origins.values())


def test_config_yaml_shows_every_key_with_its_default_and_its_description() -> None:
    text = CONFIG_YAML.read_text(encoding="utf-8")
    plain: Any = read_yaml(uncommented(text), "config.yaml").value
    plain["sources"] = [source for source in plain["sources"] if isinstance(source, dict)]
    prose = re.sub(r"\n[ #]*# ", " ", text)
    for key, field in fields():
        value = plain
        for part in key.split("."):
            value = value[int(part) if part.isdigit() else part]
        assert field.description in prose, key
        if not field.is_required() and field.default_factory is None and not isinstance(value, dict | list):
            assert value == field.default or Path(str(value)) == field.default or key.endswith(".name"), key


def test_the_long_forms_in_config_yaml_are_valid() -> None:
    loaded = load(uncommented(CONFIG_YAML.read_text(encoding="utf-8")))
    short = ("sources.0.", "sources.1.")
    assert all(str(origin) != "default" for key, origin in loaded.origins.items() if not key.startswith(short))


# --- anything at all --------------------------------------------------------------------------------------------

KEYS = st.sampled_from([*{part for key, _ in fields() for part in key.split(".")}, "<<", "on", "x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(max_size=9)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["a.mp4", "auto", "out", "0.4", "rtsp://u:p@h/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5),
)
SYNTAX = st.text(st.sampled_from(list("ab1.:-,[]{}&*!|>'\"%@`#?~<=\\ \n\t\r\x85\u2028\u2029\ufeffé検\x00\x1b")))
WORDS = st.lists(
    st.sampled_from(
        [
            "sources:",
            "detect:",
            "sinks:",
            "record:",
            "iou:",
            "a.mp4",
            "on",
            "1",
            "&a ",
            "*a",
            "<<: ",
            "!!int ",
            "!!set ",
        ]
    )
    | st.sampled_from(["? ", "- ", "\n", " ", "  ", "{", "}", "[", "]", "'", '"\\'])
)
DUMPED = VALUES.map(lambda value: str(yaml.dump(value, allow_unicode=True)))


@hypothesis_settings(max_examples=400, deadline=None)
@example('"\\UFFFFFFFF"')
@example("!!int ''")
@example("!!float ''")
@example("!!bool maybe")
@example("0x" + "f" * 9000)
@example("9" * 9000)
@example("sinks: {record: " + "a" * 9000 + ".mp4}")
@example('sinks: {record: "\\0.mp4"}')
@example("? &a [*a]\n: 1")
@given(st.text() | SYNTAX | DUMPED | WORDS.map("".join))
def test_any_text_is_settings_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for overrides in ([], [Override("detect.classes.0", text, "x"), Override(text, 1, "y")]):
        assert outcome(path, overrides).encode()


def outcome(path: Path, overrides: list[Override]) -> str:
    try:
        return repr(load_settings(path, overrides).settings)
    except ConfigError as error:
        return str(error)


@hypothesis_settings(max_examples=200, deadline=None)
@given(VALUES)
def test_what_pydantic_accepts_has_an_origin_for_every_key(value: object) -> None:
    try:
        loaded = load_settings(None, [Override("detect", value, "a"), Override("sinks", value, "b")])
    except ConfigError:
        return
    assert loaded.origins.keys() == {dotted(key) for key, _, _ in leaves(loaded.settings)}


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
PLAIN = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | TEXT


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS | TEXT, inner)))
def test_what_is_written_as_yaml_is_read_back(value: object) -> None:
    document = read_yaml(yaml.dump(value), "x")
    assert document.value == value
    assert not document.problems


# --- the values of --source -------------------------------------------------------------------------------------


def test_a_source_is_a_number_an_address_a_file_with_a_list_or_yaml(tmp_path: Path) -> None:
    listed = tmp_path / "cameras.yaml"
    listed.write_text("- rtsp://yard/live\n- {name: door, url: 1}\n")
    texts = ["0", "a.mp4", "[ab].jpg", str(listed), "{url: 2, max_fps: 5}", "[{url: b.mp4}]"]
    assert parse_sources(texts) == [
        0,
        "a.mp4",
        "[ab].jpg",
        "rtsp://yard/live",
        {"name": "door", "url": 1},
        {"url": 2, "max_fps": 5},
        {"url": "b.mp4"},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: 1", "must be a list of sources"), ("- [", "cameras.yaml:1"), ("", "must be a list of sources")],
)
def test_a_file_that_is_no_list_of_sources_is_refused(tmp_path: Path, content: str, message: str) -> None:
    listed = tmp_path / "cameras.yaml"
    listed.write_text(content)
    with pytest.raises(ConfigError, match=message):
        parse_sources([str(listed)])
