"""The tables of `frameloom bench gpu`: what was measured in words, and the columns of each."""

from __future__ import annotations

from tools.gpu.report import Part

LAYER = Part(
    "layer",
    "The CUDA layer alone, by the GPU's own clock",
    (
        ("", "", lambda row: row.what),
        ("MB", ",.1f", lambda row: row.bytes / 1e6),
        ("us", ",.1f", lambda row: row.us),
        ("GB/s", ",.1f", lambda row: row.gb_per_s),
        ("of the memory's", ".2f", lambda row: row.of_limit),
    ),
)
ACCEPTED = Part(
    "accepted",
    "Does TensorRT take this GPU?",
    (
        ("a plan for", "", lambda row: row.built_for),
        ("is built", "", lambda row: "yes" if row.built else "no"),
        ("and runs", "", lambda row: "yes" if row.accepted else "no"),
        ("s", ".1f", lambda row: row.seconds),
    ),
)
AGREES = Part(
    "agreement",
    "Plans against their model files (ONNX Runtime, fp32, on the CPU)",
    (
        ("model", "", lambda row: row.model),
        ("", "", lambda row: row.precision),
        ("", "", lambda row: row.state),
        ("input", "", lambda row: None if row.input_size is None else "{}x{}".format(*row.input_size)),
        ("batch", "d", lambda row: row.batch),
        ("build s", ".1f", lambda row: row.build_s),
        ("MiB", ".1f", lambda row: None if row.bytes is None else row.bytes / 2**20),
        ("pictures", "d", lambda row: row.pictures),
        ("largest error", ".2g", lambda row: row.largest_error),
        ("mean", ".2g", lambda row: row.mean_error),
        ("boxes", "d", lambda row: row.boxes),
        ("unmatched", "d", lambda row: row.unmatched),
        ("score drift", ".2g", lambda row: row.score_drift),
        ("encoding drift", ".2g", lambda row: row.encoding_drift),
    ),
)
LAYERS = Part(
    "layers",
    "Pictures per second: the plan alone, with transfers, with whole frames, and in the pipeline",
    (
        ("", "", lambda row: row.precision),
        ("batch", "d", lambda row: row.batch),
        ("bare", ",.0f", lambda row: row.bare),
        ("transfers", ",.0f", lambda row: row.transfers),
        ("frames", ",.0f", lambda row: row.frames),
        ("pipeline", ",.0f", lambda row: row.pipeline),
        ("of bare", ".2f", lambda row: row.of_bare),
        ("recorded", ",.0f", lambda row: row.recorded),
        ("GPU MiB", ",.0f", lambda row: row.memory_mib),
    ),
)
SWEEP = Part(
    "sweep",
    "Pictures per second by batch size; *: the smallest within 5 % of the best",
    (
        ("", "", lambda row: row.precision),
        ("batch", "d", lambda row: row.batch),
        ("bare", ",.0f", lambda row: row.bare),
        ("transfers", ",.0f", lambda row: row.transfers),
        ("", "", lambda row: "*" if row.is_plateau else ""),
    ),
)
LATENCY = Part(
    "latency",
    "From submit to the result, one request at a time",
    (
        ("", "", lambda row: row.precision),
        ("of", "", lambda row: row.of),
        ("CUDA graphs", "", lambda row: "on" if row.graphs else "off"),
        ("p50 ms", ".3f", lambda row: row.p50_ms),
        ("p95 ms", ".3f", lambda row: row.p95_ms),
        ("p99 ms", ".3f", lambda row: row.p99_ms),
    ),
)
GRAPHS = Part(
    "graphs",
    "CUDA graphs on and off: pictures per second, one a request",
    (
        ("", "", lambda row: row.precision),
        ("", "", lambda row: row.what),
        ("on", ",.0f", lambda row: row.on),
        ("off", ",.0f", lambda row: row.off),
    ),
)
