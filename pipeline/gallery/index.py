"""The approximate index of a large gallery: it proposes candidates, which are then compared exactly.

Each encoding is kept as 32 numbers of 4 bits (product quantisation: Jegou et al. 2011; scanned with in-register tables:
Andre et al. 2015), 16 bytes in all, and every search scans them all. On a million encodings of 128 numbers, with probes
at a cosine of 0.6 to 0.7 to their person, candidates for 5 faces on two cores of an AMD EPYC:

    index                                recall   search             build   memory
    this                                   1.000   3.7 ms, one core     1 s    16 MB
    the same in 256 of 1024 cells (IVF)    0.966   2.2 ms               6 s    30 MB
    8 bits a number, 256 of 1024 cells     0.966    10 ms               6 s   130 MB
    a graph (HNSW, usearch)                   not built after 7 minutes

Cells lose people, because faces of different people fill the sphere evenly: a probe's nearest cell is often not that
of its person. A scan of short codes loses nobody and is built before anyone waits. Where the encodings leave most of
their space empty it holds as well: with a variance that halves every 8 directions, 0.988 of 300,000 people.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray

CODES = 32
"""Numbers of 4 bits for an encoding: with 16 the recall falls to 0.89, and 64 take twice the time."""
CANDIDATES = 64
"""Encodings that are compared exactly for each face: 10 already find everybody of the table above."""
TRAINED_ON = 50_000
"""Encodings that the codes are learned from."""
INSTALL = "pip install 'frameloom[scale]'"

logger = logging.getLogger(__name__)


class CandidateIndex:
    """Proposes the rows of a gallery that may be most alike; any thread may ask."""

    def __init__(self, index: Any, padding: int) -> None:
        self._index = index
        self._padding = padding

    def candidates(self, queries: FloatArray) -> npt.NDArray[np.int64]:
        """Return (Q, CANDIDATES) rows of the gallery for (Q, D) float32 queries; -1: no row."""
        import faiss

        faiss.omp_set_num_threads(1)  # of the calling thread only: several cores wait for each other next to an engine
        rows: npt.NDArray[np.int64] = self._index.search(_padded(queries, self._padding), CANDIDATES)[1]
        return rows


def build_index(vectors: FloatArray) -> CandidateIndex | None:
    """Build an index over (N, D) float32 encodings; None, with a warning, where faiss is not installed."""
    try:
        import faiss
    except ImportError:
        logger.warning(
            "%d encodings are searched one by one, which is exact but slow: install the index with %s",
            len(vectors),
            INSTALL,
        )
        return None
    padding = -vectors.shape[1] % CODES
    width = vectors.shape[1] + padding
    index = faiss.IndexPQFastScan(width, CODES, 4, faiss.METRIC_L2)
    sample = np.random.default_rng(0).choice(len(vectors), min(len(vectors), TRAINED_ON), replace=False)
    index.train(_padded(vectors[np.sort(sample)], padding))
    for start in range(0, len(vectors), TRAINED_ON):
        index.add(_padded(vectors[start : start + TRAINED_ON], padding))
    return CandidateIndex(index, padding)


def _padded(vectors: FloatArray, padding: int) -> FloatArray:
    """Append zeros to each row: codes are for parts of one length."""
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, padding))) if padding else vectors)
