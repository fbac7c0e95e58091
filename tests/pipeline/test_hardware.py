"""Hardware decoding that does not work here: software decodes, and the reason is logged once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.capture import SourceOptions, VideoFile
from pipeline.capture.hardware import KINDS, problem_of, usable
from pipeline.capture.options import Hardware
from tests.pipeline.videos import grey_video


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_decoded_by_software_where_the_device_does_not_open(
    tmp_path: Path, kind: Hardware, caplog: pytest.LogCaptureFixture
) -> None:
    if problem_of(kind) is None:
        pytest.skip(f"{kind} decodes here: NVIDIA GPU or a VA-API device")
    usable.cache_clear()
    video = grey_video(tmp_path / "a.mp4", 5)
    with caplog.at_level(logging.WARNING):
        for name in ("first", "second"):
            source = VideoFile(name, video, SourceOptions(hardware=kind))
            source.open()
            assert len(list(source.frames())) == 5
            source.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"hardware decoding by {kind}: {problem_of(kind)}; software decodes"
    ]
