"""KnownPeople: a gallery as a running pipeline sees it: who a face is most like, and from where on that is a name.

The gallery may change while the pipeline runs; what changed counts within about a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.model_files import sha256_of
from pipeline.gallery.calibration import Threshold, effective_threshold
from pipeline.gallery.matcher import Matcher
from pipeline.gallery.records import EmbedderId
from pipeline.gallery.watch import Known, WatchedGallery
from pipeline.gallery.words import people
from pipeline.postprocess.identity import Best, mean_similarity

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray
    from pipeline.infer.embedder import FaceEmbedder


def id_of(embedder: FaceEmbedder) -> EmbedderId:
    """Return what a gallery must know of an encoder."""
    spec, encoder = embedder.spec, embedder.encoder
    return EmbedderId(spec.name, spec.sha256 or sha256_of(spec.path), encoder.metric, embedder.dimensions)


@dataclass(frozen=True, eq=False)
class People:
    """Who is known at one moment."""

    matcher: Matcher
    names: frozenset[str]
    threshold: Threshold
    """Similarity from which a face is the person it is most like."""

    def search(self, encodings: FloatArray) -> Best:
        """Return the most alike person of each of (N, D) encodings."""
        matches = self.matcher.search(encodings)
        return Best([row[0] for row in matches.names], matches.similarities[:, 0])

    def search_tracks(self, means: FloatArray, spreads: FloatArray) -> Best:
        """Return whom each track is most like in the mean; see `Identities.observe`."""
        best = self.search(means)
        if self.matcher.metric == "cosine":  # a product with the mean is the mean of the products
            return best
        return Best(best.names, mean_similarity(best.similarities, spreads))


class KnownPeople:
    """Who is known to one encoder; used by one thread."""

    def __init__(self, path: Path, embedder: FaceEmbedder, configured: float | None = None) -> None:
        """Read the gallery and begin to watch it.

        Args:
            path: of the gallery.
            embedder: the encoder whose encodings are searched for.
            configured: a threshold of the user's.

        Raises:
            GalleryError: it is no gallery of that encoder.
        """
        self._path, self._encoder, self._configured = path, embedder.encoder, configured
        self._watched = WatchedGallery(path, id_of(embedder))
        self._known = self._watched.known
        self._people = self._people_of(self._known)

    @property
    def now(self) -> People:
        """The people as they are now."""
        if (known := self._watched.known) is not self._known:
            self._known, self._people = known, self._people_of(known)
        return self._people

    def _people_of(self, known: Known) -> People:
        names = known.matcher.names
        threshold = effective_threshold(known.calibration, self._encoder, len(names), self._configured)
        return People(known.matcher, frozenset(names), threshold)

    def describe(self) -> str:
        """Say how many are known, and the threshold with its reason."""
        now = self.now
        return f"{people(len(now.names))} in {self._path}, threshold {now.threshold.sentence}"

    def close(self) -> None:
        """Stop watching."""
        self._watched.close()
