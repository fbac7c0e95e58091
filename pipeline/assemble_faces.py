"""Settings -> the stages of faces. Models and gallery are checked here, before a thread starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines.zoo import Zoo
from pipeline.assemble_engine import engine_options, known_sizes, suited
from pipeline.config.find_settings import FacesSettings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError, GalleryError

if TYPE_CHECKING:
    from pathlib import Path

    from engines.download import Progress
    from engines.engine import EngineOptions
    from engines.spec import ModelSpec
    from pipeline.capture.source import SourceInfo
    from pipeline.gallery.known import KnownPeople
    from pipeline.gallery.records import EmbedderId
    from pipeline.infer.embedder import FaceEmbedder
    from pipeline.stage import Stage

logger = logging.getLogger(__name__)

DEFAULT_EMBEDDER = "dlib-resnet"
LIVENESS = ("minifasnet-v2", "minifasnet-v1se")
DOUBTFUL = 0.25
"""Score from which something is hidden as a face might be. In a film trailer CenterFace misses its main figure in 12 of
270 pictures at its own threshold of 0.5, in 3 at 0.3."""


def hides_faces(settings: Settings) -> bool:
    """Whether faces are hidden, so must be looked for."""
    return settings.blur.enabled and settings.blur.what != "persons"


def hides_persons(settings: Settings) -> bool:
    """Whether persons are hidden, so must be detected."""
    return settings.blur.enabled and settings.blur.what != "faces"


def looks_for_faces(settings: Settings) -> bool:
    """Whether faces are looked for: where that is asked for, or where they are to be recognised or hidden."""
    return settings.faces.on or (settings.faces.enabled is None and hides_faces(settings))


def check_hiding(settings: Settings) -> None:
    """Refuse what would hide less than it says.

    Raises:
        ConfigError: what is to be hidden, or those that are not to be, cannot be found.
    """
    blur, faces = settings.blur, settings.faces
    if not blur.enabled:
        return
    if hides_faces(settings):
        if faces.enabled is False:
            raise ConfigError(f"blur.what: {blur.what} needs faces to be looked for, which is off (faces.enabled)")
        if faces.inside_persons:
            raise ConfigError(
                "faces.inside_persons: faces outside of persons would not be hidden: set it to false, or blur.enabled"
            )
    if hides_persons(settings):
        _check_persons(settings)
    if blur.spare:
        _check_spared(settings)


def _check_persons(settings: Settings) -> None:
    blur, detect = settings.blur, settings.detect
    if not detect.enabled:
        raise ConfigError(f"blur.what: {blur.what} needs detection, which is off (detect.enabled)")
    if detect.when == "motion" and (detect.keep_alive_s is None or detect.keep_alive_s > blur.hold_s):
        kept = "never" if detect.keep_alive_s is None else f"every {detect.keep_alive_s:g} s"
        raise ConfigError(
            f"detect.when: where nothing moves, persons would be looked for {kept}, but are held for "
            f"{blur.hold_s:g} s: set detect.keep_alive_s to less than blur.hold_s"
        )
    for number, source in enumerate(settings.sources, 1):
        if source.detect_in is not None:
            raise ConfigError(
                f"detect_in of source {source.name or number}: persons outside of it would not be hidden: leave it "
                "out, cut the picture instead (crop), or set blur.what to faces"
            )
    if detect.class_agnostic:
        raise ConfigError(
            "detect.class_agnostic: persons that overlap with something else would not be hidden: set it to false, "
            "or blur.what to faces"
        )


def _check_spared(settings: Settings) -> None:
    from pipeline.gallery.store import GalleryFile

    gallery, spare = settings.faces.gallery, settings.blur.spare
    if gallery is None:
        raise ConfigError("blur.except: nobody is known without a gallery: name one (faces.gallery)")
    if not settings.faces.on:
        raise ConfigError("blur.except: who somebody is shows in the face, but faces are off (faces.enabled)")
    if spare == "known":
        return
    with GalleryFile.open(gallery, read_only=True) as file:
        known = {person.name for person in file.people()}
    if unknown := [name for name in spare if name not in known]:
        logger.warning(
            "blur.except: %s holds nobody called %s: who is not known is hidden",
            gallery,
            " or ".join(map(repr, unknown)),
        )


def face_stages(settings: Settings, sources: Sequence[SourceInfo], progress: Progress | None = None) -> list[Stage]:
    """Return the stages that find, check and recognise faces, as far as the settings ask for them.

    Raises:
        ConfigError: persons are to be looked in, and nothing detects them; or what is to be hidden cannot be found.
        ModelError: a model is nowhere, damaged, or no such model.
        GalleryError: there is no gallery, or it is another encoder's.
    """
    check_hiding(settings)
    faces = settings.faces
    if not looks_for_faces(settings):
        return []
    if faces.inside_persons and not settings.detect.enabled:
        raise ConfigError("faces.inside_persons: persons are found by detection, which is off (detect.enabled)")
    from pipeline.infer.face_finder import FinderOptions
    from pipeline.infer.face_stages import FindFaces

    engine = suited(engine_options(settings.engine), sources)
    bypass = settings.detect.on_overload == "bypass"
    finder = FindFaces(
        find_finder(faces, progress),
        engine,
        FinderOptions(
            short_side=faces.short_side,
            confidence=faces.confidence,
            doubtful=DOUBTFUL if hides_faces(settings) else None,
        ),
        sizes=known_sizes(sources),
        inside_persons=faces.inside_persons,
        bypass=bypass,
    )
    return [finder, *_checks(faces, engine, progress), *_recognition(settings, engine, bypass, progress)]


def _checks(faces: FacesSettings, engine: EngineOptions, progress: Progress | None) -> list[Stage]:
    stages: list[Stage] = []
    if faces.liveness:
        from pipeline.infer.face_checks import CheckLiveness

        specs = [Zoo.load().spec(name, task="liveness", progress=progress) for name in LIVENESS]
        stages.append(CheckLiveness(specs, engine))
    if faces.points is not None:
        from pipeline.infer.face_checks import FindPoints

        stages.append(FindPoints(Zoo.load().spec(faces.points, task="face-points", progress=progress), engine))
    return stages


def recognises(settings: Settings) -> bool:
    """Whether faces are encoded, where they are looked for at all."""
    events = settings.sinks.events
    return settings.faces.gallery is not None or bool(events and events.encodings)


def _recognition(settings: Settings, engine: EngineOptions, bypass: bool, progress: Progress | None) -> list[Stage]:
    faces = settings.faces
    if not recognises(settings):
        return []
    from pipeline.infer.face_stages import RecogniseFaces, RecogniseOptions

    gallery = faces.gallery
    encoder = find_encoder(faces, progress)
    options = RecogniseOptions(faces.min_quality, faces.min_liveness, faces.match_every, faces.mirrored)
    people = None if gallery is None else lambda embedder: _people(gallery, embedder, faces.threshold)
    return [RecogniseFaces(encoder, engine, options, people, bypass=bypass)]


def _people(gallery: Path, embedder: FaceEmbedder, threshold: float | None) -> KnownPeople:
    from pipeline.gallery.known import KnownPeople

    return KnownPeople(gallery, embedder, threshold)


def find_finder(faces: FacesSettings, progress: Progress | None = None) -> ModelSpec:
    """Return the complete spec of the finder.

    Raises:
        ModelError: it is nowhere, damaged, or finds no faces.
    """
    from pipeline.infer.face_finder import recognise

    return recognise(Zoo.load().spec(faces.finder, task="face-detect", progress=progress))


def find_encoder(faces: FacesSettings, progress: Progress | None = None) -> ModelSpec:
    """Return the spec of the encoder: the one named, else the gallery's, else the default.

    Raises:
        ModelError: it is nowhere, or nothing says how it is used.
        GalleryError: there is no gallery, or it is another encoder's.
    """
    from pipeline.gallery.store import GalleryFile

    held, name = None, faces.embedder
    if faces.gallery is not None:
        with GalleryFile.open(faces.gallery, read_only=True) as gallery:
            held = gallery.embedder
        name = name or encoder_name(held, faces.gallery)
    name = name or DEFAULT_EMBEDDER
    spec = Zoo.load().spec(name, task="face-encode", progress=progress)
    if held is not None and spec.sha256 != held.sha256:
        raise GalleryError(
            f"{faces.gallery} holds encodings of {held}, which cannot be compared with those of {spec.name} "
            f"(sha256 {str(spec.sha256)[:12]}): use that encoder, or another gallery"
        )
    return spec


def encoder_name(held: EmbedderId, gallery: Path) -> str:
    """Return what the encoder that a gallery was made with is called here; its file says more than the name it had.

    Raises:
        GalleryError: it is not among the known models.
    """
    zoo = Zoo.load()
    name = zoo.name_of(held.sha256) or (held.name if held.name in zoo else None)
    if name is None:
        raise GalleryError(
            f"{gallery} was made with the encoder {held.name} (sha256 {held.sha256[:12]}), which is not among the "
            f"known models: give its file by --embedder"
        )
    return name
