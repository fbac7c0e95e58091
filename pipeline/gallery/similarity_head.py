"""A learned comparison of two faces: how likely they are one person, each dimension weighed by what it tells.

Logistic regression on what two encodings f and g differ by, one feature a dimension, as on top of DeepFace (Taigman et
al. 2014, sections 4.1 and 4.2). There encodings are not negative; here the divisor takes their magnitudes:

    absolute      |f - g|
    chi-square    (f - g)^2 / (|f| + |g| + 1e-6)

Both are symmetric, so the order of two faces does not matter. `frameloom train similarity` makes a head.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.private_file import kind_of

Form = Literal["absolute", "chi-square"]
FORMS: tuple[Form, ...] = get_args(Form)
VERSION = 1
EPSILON = 1e-6
KEYS = frozenset({"version", "weights", "bias", "form", "embedder"})


def features(a: FloatArray, b: FloatArray, form: Form) -> FloatArray:
    """Return (N, D) float32: what the encodings (N, D) and (N, D) differ by in each dimension."""
    difference = np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32))
    if form == "absolute":
        return difference
    return np.asarray(difference**2 / (np.abs(a) + np.abs(b) + EPSILON), np.float32)


@dataclass(frozen=True, eq=False)
class SimilarityHead:
    """Weights of the features, for the encodings of one embedder."""

    weights: FloatArray
    """(D,)."""
    bias: float
    form: Form
    embedder: str
    """sha256 of its file."""

    def logit(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Return (N,) the log of the odds that a[i] and b[i] are one person.

        Args:
            a, b: (N, D) encodings of this embedder.

        Raises:
            GalleryError: D is not that of the weights.
        """
        if np.shape(a) != np.shape(b) or np.ndim(a) != 2 or np.shape(a)[1] != len(self.weights):
            raise GalleryError(
                f"encodings {np.shape(a)} and {np.shape(b)} do not fit a head for {len(self.weights)} dimensions"
            )
        return np.asarray(features(a, b, self.form) @ self.weights + np.float32(self.bias), np.float32)

    def probability(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Return (N,) in 0..1: how likely a[i] and b[i] are one person, where half of all pairs are. See `logit`."""
        return np.asarray(0.5 * (1 + np.tanh(0.5 * self.logit(a, b))), np.float32)  # the logistic, without overflow

    def save(self, path: Path) -> None:
        """Write it as `.npz`.

        Raises:
            GalleryError: the file cannot be written.
        """
        try:
            with path.open("wb") as file:
                np.savez(
                    file,
                    version=VERSION,
                    weights=self.weights,
                    bias=self.bias,
                    form=self.form,
                    embedder=self.embedder,
                )
        except OSError as error:
            raise kind_of(error)(f"the similarity head {path} cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path, embedder: str) -> SimilarityHead:
        """Read what `save` wrote.

        Args:
            path: the file.
            embedder: sha256 of the embedder whose encodings are compared.

        Raises:
            GalleryError: it cannot be read, is something else, or was made for another embedder.
        """
        try:
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                fields = {key: archive[key] for key in KEYS.intersection(archive.files)}
        except OSError as error:
            raise kind_of(error)(f"the similarity head {path} cannot be read: {error.strerror or error}") from error
        except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise GalleryError(f"{path} is no similarity head: it is not a readable .npz file") from error
        head = cls._from(fields, path)
        if head.embedder != embedder:
            raise GalleryError(
                f"{path} was made for the embedder {head.embedder[:12]}..., not for {embedder[:12]}...: "
                "train one by `frameloom train similarity`"
            )
        return head

    @classmethod
    def _from(cls, fields: dict[str, np.ndarray], path: Path) -> SimilarityHead:
        if missing := sorted(KEYS.difference(fields)):
            raise GalleryError(f"{path} is no similarity head: it lacks {', '.join(missing)}")
        weights, bias, form = fields["weights"], fields["bias"], str(fields["form"])
        if str(fields["version"]) != str(VERSION):
            raise GalleryError(
                f"{path} is a similarity head of version {fields['version']}, this program reads {VERSION}: train anew"
            )
        if form not in FORMS:
            raise GalleryError(f"{path}: unknown feature form {form!r}; there are {', '.join(FORMS)}")
        if weights.dtype.kind != "f" or weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all():
            raise GalleryError(f"{path}: the weights {weights.dtype} {weights.shape} are no row of finite numbers")
        if bias.dtype.kind != "f" or bias.ndim or not np.isfinite(bias):
            raise GalleryError(f"{path}: the bias is no finite number")
        return cls(np.asarray(weights, np.float32), float(bias), form, str(fields["embedder"]))
