"""`frameloom`: every command is a few lines in a module of its own; this one only puts them together.

Exit codes: 0 done, 1 the run failed, 2 the request was wrong. `--debug` anywhere shows the traceback.
"""

from __future__ import annotations

import logging
import sys
import traceback

import typer

from engines.errors import FrameloomError
from tools import (
    anchors,
    bench_blur,
    bench_faces,
    bench_gallery,
    bench_models,
    bench_nms,
    bench_render,
    bench_segment,
    bench_style,
    bench_tiles,
    bench_track,
    benchmark,
    config,
    demo,
    doctor,
    eval_segment,
    eval_track,
    evaluate,
    evaluate_faces,
    gallery,
    models,
    neural_style,
    run,
    soak,
    visualize,
)
from tools.engines import commands as engines
from tools.gpu import bench as bench_gpu
from tools.terminal import LogLines
from tools.train import embedding, segment, similarity, style

app = typer.Typer(
    name="frameloom",
    help="A real-time video pipeline: capture, infer, post-process, render, record, report. "
    "Add --debug to any command to see tracebacks, --verbose to see what is chosen and why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
training = typer.Typer(
    help="Train models of your own: a face encoder, a U-Net, a similarity head, a style.", no_args_is_help=True
)
training.command()(embedding.embedding)
training.command()(segment.segment)
training.command()(similarity.similarity)
training.command()(style.style)

app.command()(run.run)
app.command()(demo.demo)
app.add_typer(models.app, name="models")
benchmark.app.command()(soak.soak)
benchmark.app.command()(bench_gallery.gallery)
benchmark.app.command()(bench_models.models)
benchmark.app.command("nms")(bench_nms.bench)
benchmark.app.command()(bench_faces.faces)
benchmark.app.command()(bench_tiles.tiles)
benchmark.app.command()(bench_render.render)
benchmark.app.command()(bench_blur.blur)
benchmark.app.command("segment")(bench_segment.bench)
benchmark.app.command()(bench_style.style)
benchmark.app.command("track")(bench_track.bench)
benchmark.app.command()(bench_gpu.gpu)
app.add_typer(benchmark.app, name="bench")
app.add_typer(engines.app, name="engines")
app.add_typer(gallery.app, name="gallery")
evaluate.app.command()(evaluate_faces.verify)
evaluate.app.command()(evaluate_faces.identify)
evaluate.app.command()(eval_segment.segment)
evaluate.app.command()(eval_track.track)
app.add_typer(evaluate.app, name="eval")
app.add_typer(training, name="train")
app.command()(anchors.anchors)
app.command()(neural_style.style)
app.command()(visualize.visualize)
app.command()(doctor.doctor)
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command line; the entry point `frameloom`."""
    debug, verbose = _take_flag("--debug"), _take_flag("--verbose")
    level = logging.INFO if verbose or debug else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s", handlers=[LogLines()])
    if debug:
        _show_lines_of_ffmpeg()
    try:
        app()
    except FrameloomError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"frameloom: {error}\n")
        sys.exit(2 if error.request_was_wrong else 1)


def _show_lines_of_ffmpeg() -> None:
    """Let FFmpeg's own lines appear among ours."""
    import cv2  # noqa: F401, I001  (before PyAV: see pipeline.picture)
    import av

    av.logging.set_level(av.logging.INFO)
    logging.getLogger("libav").setLevel(logging.INFO)  # which PyAV has set higher


def _take_flag(name: str) -> bool:
    """Remove a flag that any command accepts; say whether it was there."""
    given = name in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != name]
    return given


if __name__ == "__main__":
    main()
