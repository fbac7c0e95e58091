"""Encodings to fill galleries with."""

from __future__ import annotations

import secrets

import numpy as np

from pipeline.gallery.records import EmbedderId, Encoding

DLIB = EmbedderId("dlib-resnet", "d" * 64, "l2", 128)
MOBILE = EmbedderId("mobilefacenet", "a" * 64, "cosine", 512)


def encodings(count: int, seed: int = 0, image: str = "picture") -> list[Encoding]:
    """Raw encodings of the `DLIB` kind, of length about 1.4, each of a picture that no other call gives."""
    vectors = np.random.default_rng(seed).normal(scale=0.12, size=(count, 128)).astype(np.float32)
    qualities = [0.5 + 0.001 * (row % 500) for row in range(count)]
    return [
        Encoding(vector, quality, f"{image}-{row}.jpg", secrets.token_hex(32), "2026-01-02T03:04:05+00:00")
        for row, (vector, quality) in enumerate(zip(vectors, qualities, strict=True))
    ]
