"""`frameloom bench faces`: what finding and recognising faces costs, per frame and per face; and the whole run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.zoo import Zoo
from pipeline.assemble_engine import engine_options
from pipeline.assemble_faces import find_encoder, find_finder
from pipeline.capture.file import VideoFile
from pipeline.config.load import Override, load_settings, parse_set
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.gallery.known import KnownPeople, id_of
from pipeline.gallery.records import Encoding
from pipeline.gallery.store import GalleryFile
from pipeline.infer.embedder import FaceEmbedder
from pipeline.infer.face_finder import FaceFinder, FinderOptions
from pipeline.infer.face_quality import measure
from pipeline.infer.face_stages import face_tracker, follow
from pipeline.postprocess.identity import Identities
from pipeline.postprocess.tracker import Tracker
from pipeline.render.renderer import Renderer
from pipeline.sinks.paths import prepare_file
from pipeline.sinks.recorder import Recorder, RecorderOptions
from tools.bare import WARM_UP, Costs
from tools.bench_gallery import centres
from tools.benchmark import apart, environment, run_pipeline
from tools.terminal import download_progress

if TYPE_CHECKING:
    from pipeline.faces import Faces

PER_FACE = ("align", "quality", "encode")
"""Parts whose cost grows with the faces."""


def faces(
    video: Annotated[Path | None, typer.Argument(help="Video to run on; without it, a demo clip.")] = None,
    people: Annotated[int, typer.Option(min=1, help="How many are known; they are made up.")] = 1000,
    frames: Annotated[int, typer.Option(min=1, help="Frames of the video to use.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, help="How often to repeat everything.")] = 3,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any key of the pipeline.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure each part's CPU time, per frame and per face, and the pipeline's frames per second without detection."""
    if video is None:
        with download_progress("demo-carphone") as progress:
            video = Zoo.load().fetch("demo-carphone", progress)
    if json_file is not None:
        prepare_file(json_file, "bench faces --json")
    values = {"sources": [str(video)], "detect.enabled": False, "max_frames": frames}
    overrides = [Override(key, value, "bench") for key, value in values.items()]
    settings = load_settings(None, [*overrides, *map(parse_set, set_ or ())]).settings
    results = [apart(_round, settings, video, people, frames) for _ in range(rounds)]
    report = _summary(results) | {"video": video.name, "people": people, "environment": environment()}
    _print(report, Console(highlight=False))
    if json_file is not None:
        json_file.write_text(json.dumps(report | {"rounds": results}, indent=2) + "\n")


def _round(settings: Settings, video: Path, people: int, frames: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "gallery.db"
        embedder = FaceEmbedder(find_encoder(settings.faces), engine_options(settings.engine))
        embedder.close()
        _fill(gallery, embedder, people)
        with_gallery = settings.model_copy(update={"faces": settings.faces.model_copy(update={"gallery": gallery})})
        pipeline = run_pipeline(with_gallery, Path(folder) / "pipeline.mp4")
        parts, count = bare_parts(with_gallery, video, frames, Path(folder) / "bare.mp4")
    return {"parts": parts, "faces_per_frame": count, "pipeline": pipeline}


def _fill(path: Path, embedder: FaceEmbedder, people: int) -> None:
    vectors = centres(people, embedder.dimensions, np.random.default_rng(people))
    with GalleryFile.open(path, id_of(embedder), create=True) as gallery:
        gallery.add_records((f"person {i}", Encoding(row, 1.0, "", "", "")) for i, row in enumerate(vectors))


def bare_parts(settings: Settings, video: Path, frames: int, output: Path) -> tuple[dict[str, float], float]:
    """Measure every part of a run with faces and without detection, one after the other on one thread.

    Returns:
        CPU milliseconds per frame, per part; and faces per frame.

    Raises:
        ConfigError: the video has no picture.
    """
    cv2.setNumThreads(1)
    bench = _Bench.opened(settings)
    source = VideoFile("bench", video)
    source.open()
    recorder = Recorder(RecorderOptions(output))
    recorder.check([source.info])
    items, costs, counted, seen = source.frames(), Costs(), 0, 0
    for number in range(WARM_UP + frames):
        if number == WARM_UP:
            costs, counted, seen = Costs(), 0, 0
        frame = costs.of("decode", lambda: next(items, None))
        if not isinstance(frame, Frame):
            break
        seen += bench.process(frame, costs)
        costs.of("encode video", partial(recorder.consume, frame))
        counted += 1
    recorder.close()
    source.close()
    bench.close()
    if not counted:
        raise ConfigError(f"{video} has no more than {WARM_UP} pictures: name a longer one")
    return {part: total / counted for part, total in costs.total_ms.items()}, seen / counted


@dataclass
class _Bench:
    """The parts, as a run has them."""

    finder: FaceFinder
    embedder: FaceEmbedder
    people: KnownPeople
    renderer: Renderer
    tracker: Tracker
    identities: Identities

    @classmethod
    def opened(cls, settings: Settings) -> _Bench:
        assert settings.faces.gallery is not None
        engine = replace(engine_options(settings.engine), threads=1, requests=1)
        finder = FaceFinder(find_finder(settings.faces), engine, FinderOptions(short_side=settings.faces.short_side))
        embedder = FaceEmbedder(find_encoder(settings.faces), engine, mirrored=settings.faces.mirrored)
        identities = Identities(embedder.encoder.verify_threshold)
        people = KnownPeople(settings.faces.gallery, embedder)
        return cls(finder, embedder, people, Renderer(), face_tracker(), identities)

    def process(self, frame: Frame, costs: Costs) -> int:
        """Do everything to a frame; return how many faces it has."""
        found: Faces = costs.of("find", lambda: self.finder(frame.picture))
        chips = costs.of("align", lambda: self.embedder.chips(frame.picture, found.landmarks))
        quality = costs.of("quality", lambda: measure(found, chips)).values
        encodings = costs.of("encode", lambda: self.embedder(chips))
        costs.of("track + match", lambda: self._match(frame, found, encodings, quality))
        frame.faces = found
        costs.of("draw", lambda: self.renderer.process(frame))
        return len(found)

    def _match(self, frame: Frame, found: Faces, encodings: Any, quality: Any) -> None:
        follow(self.tracker, found, frame.pts)
        if found.track_ids is not None and len(found):
            people = self.people.now
            evidence = self.identities.observe(found.track_ids, encodings, quality, frame.pts)
            self.identities.decide(found.track_ids, people.search_tracks(*evidence), people.threshold.value)
            best = self.identities.of(found.track_ids, frame.pts, people.names.__contains__)
            found.names, found.similarities = tuple(best.names), best.similarities

    def close(self) -> None:
        self.people.close()
        self.finder.close()
        self.embedder.close()


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    cores = environment()["cores"]
    parts = {name: median(each["parts"][name] for each in results) for name in results[0]["parts"]}
    count = results[0]["faces_per_frame"]
    bounds = [cores * 1e3 / sum(each["parts"].values()) for each in results]
    fps = [each["pipeline"]["fps"] for each in results]
    return {
        "cpu_ms_per_frame": parts,
        "cpu_ms_per_face": {name: parts[name] / count for name in PER_FACE} if count else {},
        "faces_per_frame": count,
        "bound_fps": median(bounds),
        "pipeline_fps": median(fps),
        "of_bound": median(reached / bound for reached, bound in zip(fps, bounds, strict=True)),
        "engine": results[-1]["pipeline"]["engine"],
    }


def _print(report: dict[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("part, alone on one thread")
    table.add_column("CPU ms per frame", justify="right")
    table.add_column("per face", justify="right")
    for name, milliseconds in report["cpu_ms_per_frame"].items():
        each = report["cpu_ms_per_face"].get(name)
        table.add_row(name, f"{milliseconds:.2f}", "" if each is None else f"{each:.2f}")
    table.add_row("sum", f"{sum(report['cpu_ms_per_frame'].values()):.2f}", "", style="bold")
    console.print(table)
    machine = report["environment"]
    for line in _lines(report, machine):
        console.print(line, markup=False, soft_wrap=True)


def _lines(report: dict[str, Any], machine: dict[str, Any]) -> Iterator[str]:
    yield f"{report['faces_per_frame']:.1f} faces per frame, {report['people']:,} people known (made up)"
    yield f"bound      {report['bound_fps']:7.1f} fps = {machine['cores']} cores / the sum"
    yield f"pipeline   {report['pipeline_fps']:7.1f} fps = {report['of_bound']:.2f} of the bound"
    yield from report["engine"]
    yield f"{report['video']}; {machine['cpu']}, {machine['cores']} cores, load {machine['load']}"
