"""`frameloom run`: settings from file and options, then the run itself, ended in order by Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from pipeline.config.load import Override, load_settings, parse_set, parse_sources
from pipeline.config.settings import Settings
from pipeline.errors import SinkError
from pipeline.runner import Runner

INTERRUPTED = 130
SHOW_CURSOR = b"\x1b[?25h"


def run(
    config: Annotated[Path | None, typer.Argument(help="Configuration file; without it, the defaults.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Camera number, rtsp:// or other stream, video, image, folder, glob, or synthetic://640x480@30; "
            "a YAML file with a list of sources; repeat for several."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of a known model, or an ONNX file.")] = None,
    gallery: Annotated[
        str | None, typer.Option(metavar="FILE", help="Recognise faces: who is known (frameloom gallery add).")
    ] = None,
    finder: Annotated[str | None, typer.Option(help="Name of a known face finder, or an ONNX file.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Name of a known face encoder, or a file.")] = None,
    segment: Annotated[
        str | None,
        typer.Option(metavar="EFFECT", help="Segment: overlay, blur-background, replace-background, cut-out or none."),
    ] = None,
    stylize: Annotated[
        str | None, typer.Option(metavar="STYLE", help="Paint in this style (frameloom models list --task stylize).")
    ] = None,
    record: Annotated[str | None, typer.Option(metavar="FILE", help="Record an annotated MP4.")] = None,
    segment_s: Annotated[float | None, typer.Option(help="Begin a new recording after so many seconds.")] = None,
    events: Annotated[str | None, typer.Option(metavar="FILE", help="Write results as JSON lines.")] = None,
    frames: Annotated[str | None, typer.Option(metavar="FOLDER", help="Write annotated pictures.")] = None,
    trace: Annotated[str | None, typer.Option(metavar="FILE", help="Write every frame's times for Perfetto.")] = None,
    window: Annotated[bool, typer.Option("--window", help="Show the result; q ends the run.")] = False,
    max_frames: Annotated[int | None, typer.Option(help="Stop each source after so many frames.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino or onnxruntime.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 (CPU), fp16 (TensorRT) or int8.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key.")] = None,
) -> None:
    """Detect and recognise in videos and images; show, record and report what and who is there."""
    options = {
        "--source": ("sources", parse_sources(source) if source else None),
        "--model": ("detect.model", model),
        "--gallery": ("faces.gallery", gallery),
        "--finder": ("faces.finder", finder),
        "--embedder": ("faces.embedder", embedder),
        "--segment": ("segment.effect", segment),
        "--stylize": ("stylize.model", stylize),
        "--record": ("sinks.record.path", record),
        "--segment-s": ("sinks.record.segment_s", segment_s),
        "--events": ("sinks.events.path", events),
        "--frames": ("sinks.frames.path", frames),
        "--trace": ("sinks.trace.path", trace),
        "--window": ("sinks.window.enabled", window or None),
        "--max-frames": ("max_frames", max_frames),
        "--backend": ("engine.backend", backend),
        "--precision": ("engine.precision", precision),
    }
    overrides = [Override(key, value, option) for option, (key, value) in options.items() if value is not None]
    overrides += [parse_set(text) for text in set_ or ()]
    execute(load_settings(config, overrides).settings)


def execute(settings: Settings) -> Runner:
    """Run what the settings describe, with progress and summary on the terminal.

    Returns:
        The finished runner; where a thread had to be abandoned the process ends here instead.

    Raises:
        FrameloomError: the request is wrong, or the run failed (its summary is printed nevertheless, if it began).
    """
    from pipeline.assemble import assemble
    from tools.terminal import RunProgress, download_progress, print_summary

    with download_progress(settings.detect.model) as progress:
        runner = assemble(settings, progress=progress)
    with stopped_by_signals(runner), RunProgress(runner, settings.max_frames):
        runner.start()
        runner.wait()
    if runner.error is None or runner.ledger.first_at is not None:  # else nothing happened that could be summed up
        try:
            print_summary(runner)
        except SinkError as error:
            runner.error = runner.error or error
    if runner.abandoned:
        _leave(runner)
    if runner.error is not None:
        raise runner.error
    return runner


@contextmanager
def stopped_by_signals(runner: Runner, signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into an orderly stop; a second one ends the process at once."""
    received = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            if os.isatty(2):  # where the progress bar has hidden it
                os.write(2, SHOW_CURSOR)
            os._exit(INTERRUPTED)
        runner.stop()

    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(runner: Runner) -> None:
    """End the process without waiting for threads that a library call holds."""
    code = 0
    if runner.error is not None:
        code = 2 if runner.error.request_was_wrong else 1
        typer.echo(f"frameloom: {runner.error}", err=True)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # None where it was closed, or its reader has gone
            stream.flush()
    os._exit(code)
