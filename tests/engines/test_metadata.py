"""What exporters write into a file is understood; what strangers may write there does no harm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from engines.metadata import MOST_LABELS, Metadata, anchors_of, literal, read_metadata


def saying(**entries: str) -> Metadata:
    model = onnx.ModelProto(producer_name="a", producer_version="1")
    helper.set_model_props(model, entries)
    return read_metadata(model)


def test_what_ultralytics_writes_is_understood(shared: Path) -> None:
    said = read_metadata(onnx.load(shared / "models" / "detect" / "yolov8n-seg_320.onnx"))
    assert (said.task, said.size, said.stride, said.end_to_end) == ("segment", (320, 320), 32, False)
    assert (len(said.labels), said.labels[0], said.labels[79]) == (80, "person", "toothbrush")
    assert said.entries["license"].startswith("AGPL-3.0")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{0: 'cat', 1: 'dog'}", ("cat", "dog")),
        ("{0: 'cat', 2: 'dog'}", ("cat", "1", "dog")),
        ('{"0": "cat", "1": "dog"}', ("cat", "dog")),
        ("['cat', 'dog']", ("cat", "dog")),
        ('["cat", "it\'s"]', ("cat", "it's")),
        ("('cat', 'dog')", ("cat", "dog")),
        ("cat,red door, dog", ("cat", "red door", "dog")),
        ("cat\ndog\n", ("cat", "dog")),
        ("{0: 'Hund\\u00e4', 1: 'Ã¼'}", ("Hundä", "Ã¼")),
        ("{0: 'two\\nlines', 1: '\\x1b[31mred'}", ("two lines", "[31mred")),
        ("coco.yaml", ()),
        ("helmet", ()),
        ("__import__('os').system('touch a, b')", ()),
        ("", ()),
        ("{}", ()),
        ("[]", ()),
        ("{'a': 'b'}", ()),
        ("{-1: 'a'}", ()),
        ("{0: 'a'", ()),
        ("{999999999: 'a', 0: 'b'}", ("b",)),
    ],
)
def test_names_are_read_in_each_form_that_exporters_use(text: str, labels: tuple[str, ...]) -> None:
    assert saying(names=text).labels == labels


@pytest.mark.parametrize("key", ["names", "labels", "classes", "class_names"])
def test_names_may_stand_under_several_keys(key: str) -> None:
    assert saying(**{key: "['a', 'b']"}).labels == ("a", "b")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"imgsz": "[384, 640]"}, {"size": (384, 640)}),
        ({"imgsz": "640"}, {"size": (640, 640)}),
        ({"imgsz": "[640, 640, 3]"}, {"size": None}),
        ({"imgsz": "[0, 640]"}, {"size": None}),
        ({"imgsz": "[1e9, 640]"}, {"size": None}),
        ({"stride": "32"}, {"stride": 32}),
        ({"stride": "32.0"}, {"stride": 32}),
        ({"stride": "[8, 16, 32]"}, {"stride": 32}),
        ({"stride": "-8"}, {"stride": None}),
        ({"task": "pose"}, {"task": "pose"}),
        ({"task": "rm -rf /"}, {"task": None}),
        ({"end2end": "True"}, {"end_to_end": True}),
        ({"end2end": "false"}, {"end_to_end": False}),
        ({"nms": "true"}, {"end_to_end": True}),
        ({"args": "{'batch': 1, 'opset': None, 'nms': True}"}, {"end_to_end": True}),
        ({"args": "{'nms': False}"}, {"end_to_end": False}),
        ({"kpt_shape": "[17, 3]"}, {"keypoints": (17, 3)}),
        ({"kpt_shape": "[17, 7]"}, {"keypoints": None}),
        ({"anchors": "[[[10, 13], [16, 30]]]"}, {"anchors": (((10.0, 13.0), (16.0, 30.0)),)}),
        ({"anchors": "[[10, 13, 16, 30], [5, 6]]"}, {"anchors": (((10.0, 13.0), (16.0, 30.0)), ((5.0, 6.0),))}),
        ({"anchors": "[[10, 13, 16]]"}, {"anchors": None}),
        ({"anchors": "[[[10, -13]]]"}, {"anchors": None}),
        ({"anchors": "[]"}, {"anchors": None}),
        ({"arithmetic": "yolov5"}, {"arithmetic": "yolov5"}),
        ({"arithmetic": "other"}, {"arithmetic": None}),
        ({}, {"producer": "a 1", "labels": (), "anchors": None}),
    ],
    ids=str,
)
def test_each_entry_is_read_or_left_out(entries: dict[str, str], expected: dict[str, Any]) -> None:
    said = saying(**entries)
    assert {name: getattr(said, name) for name in expected} == expected
    assert said.entries == entries


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 100 + "]" * 100,
        "-" * 200_000 + "1",
        "1" + "-1" * 100_000,
        "1" + " -1" * 100_000,
        "(" * 5_000 + "1" + ")" * 5_000,
        "9" * 400_000,
        "{" + "0: {" * 1000,
        "'" + "\\" * 300_000,
        "x" * 2_000_000,
        "__import__('os').system('true')",
        "[().__class__.__bases__]",
        "{0: open('/etc/passwd')}",
        "1e999",
        "\x00\x01",
        "{0: 'a', **{1: 'b'}}",
        "f'{1}'",
        "not not not True",
        "{[]: 1}",
        "{{}: 1}",
    ],
    ids=lambda text: text[:20],
)
def test_hostile_text_is_left_out_at_once(text: str) -> None:
    began = time.monotonic()
    said = saying(names=text, imgsz=text, stride=text, anchors=text, args=text, kpt_shape=text)
    assert time.monotonic() - began < 2
    assert (said.size, said.stride, said.anchors, said.keypoints) == (None, None, None, None)
    assert all(len(label) <= 100 for label in said.labels)


def test_a_number_far_out_makes_no_endless_list_of_names() -> None:
    assert saying(names=f"{{{MOST_LABELS}: 'a'}}").labels == ()
    assert len(saying(names=f"{{{MOST_LABELS - 1}: 'a'}}").labels) == MOST_LABELS


FLAT = st.one_of(st.integers(-(10**17), 10**17), st.booleans(), st.none(), st.text(max_size=20))


@given(st.one_of(st.dictionaries(st.integers(0, 99), st.text(max_size=20)), st.lists(FLAT), st.lists(st.lists(FLAT))))
def test_every_flat_python_literal_is_read_as_python_reads_it(value: object) -> None:
    assert literal(repr(value)) == value


@given(st.recursive(FLAT, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_anchors_of_anything_are_anchors_or_none(value: object) -> None:
    found = anchors_of(value)
    assert found is None or all(len(pair) == 2 and min(pair) > 0 for each in found for pair in each)
