"""A run's figures as Prometheus's families: names, units and labels after its conventions.

Totals count from the start of the run; times are in seconds; a quantile is of the whole run. A source's state has a
series for each state, 1 for the one that it is in, so that an alert can name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

from pipeline.capture.source import State

if TYPE_CHECKING:
    from pipeline.runner import Runner
    from pipeline.sinks.metrics import SourceFigures
    from pipeline.trace import StageTimes

QUANTILES = (50, 95, 99)
"""Percent."""
STATES: tuple[str, ...] = get_args(State)


def families(
    runner: Runner, sources: Sequence[SourceFigures], latency_buckets_s: Sequence[float], now: float
) -> list[Any]:
    """Return every family.

    Args:
        runner: the run.
        sources: what was noted of each source.
        latency_buckets_s: upper bounds of the buckets of `SourceFigures.latency_counts`.
        now: monotonic seconds.
    """
    seen = [each for each in sources if each.state_now(runner.states.get(each.name)) == "streaming"]
    return [
        *_run(runner),
        *_frames(runner),
        *_stations(runner.stage_times()),
        *_states(runner, sources, now),
        _latency(sources, latency_buckets_s),
        *_found(seen),
        _events(sources),
        *_zones(sources, seen),
    ]


def _run(runner: Runner) -> Iterator[Any]:
    yield _gauge("build_info", "Which frameloom this is; always 1.", ["version"], [((own_version(),), 1)])
    yield _gauge("ready", "Whether every stage and sink takes frames.", [], [((), int(runner.is_ready))])


def _frames(runner: Runner) -> Iterator[Any]:
    counts = runner.ledger.counts()
    for name, what in (("captured", "Frames that a source has given."), ("delivered", "Frames offered to all sinks.")):
        yield _counter(f"frames_{name}", what, ["source"], [((source,), each[name]) for source, each in counts.items()])
    dropped = [
        ((source, reason), number) for source, each in counts.items() for reason, number in each["dropped"].items()
    ]
    yield _counter("frames_dropped", "Frames that went no further, by reason.", ["source", "reason"], dropped)
    lost = [((sink.name,), runner.sink_drops.get(sink.name, 0) + sink.dropped) for sink in runner.sinks]
    yield _counter("sink_dropped", "Frames, lines or events that a sink did not take or gave up.", ["sink"], lost)


def _stations(stations: dict[str, StageTimes]) -> Iterator[Any]:
    from prometheus_client.core import Metric

    for name, what, which in (
        ("frameloom_stage_seconds", "How long a station works on a frame.", "wall"),
        ("frameloom_stage_wait_seconds", "How long a frame waits for a station.", "waits"),
    ):
        family = Metric(name, what, "summary")
        for station, times in stations.items():
            histogram = getattr(times, which)
            for percent in QUANTILES:
                value_ms = histogram.percentile_ms(percent)
                labels = {"stage": station, "quantile": f"{percent / 100:g}"}
                family.add_sample(name, labels, float("nan") if value_ms is None else value_ms / 1e3)
            family.add_sample(f"{name}_count", {"stage": station}, histogram.count)
            family.add_sample(f"{name}_sum", {"stage": station}, histogram.total_s)
        yield family
    cpu = [((station,), times.cpu_s) for station, times in stations.items()]
    yield _counter("stage_cpu_seconds", "CPU time of a station's own threads.", ["stage"], cpu)


def _states(runner: Runner, sources: Sequence[SourceFigures], now: float) -> Iterator[Any]:
    states, ages = [], []
    for each in sources:
        state = each.state_now(runner.states.get(each.name))
        states += [((each.name, name), int(name == state)) for name in STATES]
        if each.last_frame_at is not None:
            ages.append(((each.name,), each.age_s(now)))
    yield _gauge("source_state", "1 for the state that a source is in.", ["source", "state"], states)
    yield _gauge("last_frame_age_seconds", "Time since a source's last frame was captured.", ["source"], ages)


def _latency(sources: Sequence[SourceFigures], buckets_s: Sequence[float]) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    what = "Time from a frame's capture until it is offered to the sinks."
    family = HistogramMetricFamily("frameloom_latency_seconds", what, labels=["source"])
    bounds = [*(str(bound) for bound in buckets_s), "+Inf"]
    for each in sources:
        counts = list(accumulate(each.latency_counts))
        family.add_metric([each.name], list(zip(bounds, counts, strict=True)), each.latency_total_s)
    return family


def _found(sources: Sequence[SourceFigures]) -> Iterator[Any]:
    objects = [((each.name, name), count) for each in sources for name, count in each.objects.items()]
    yield _gauge("objects", "Objects in the last frame, by class.", ["source", "class"], objects)
    faces = [((each.name,), each.faces) for each in sources if each.faces is not None]
    yield _gauge("faces", "Faces in the last frame.", ["source"], faces)


def _events(sources: Sequence[SourceFigures]) -> Any:
    events = [((each.name, name), count) for each in sources for name, count in dict(each.events).items()]
    return _counter("events", "Events, by name.", ["source", "event"], events)


def _zones(sources: Sequence[SourceFigures], seen: Sequence[SourceFigures]) -> Iterator[Any]:
    def rows(which: str, sources: Sequence[SourceFigures]) -> list[tuple[tuple[str, ...], float]]:
        return [
            ((each.name, zone.name, name), count)
            for each in sources
            for zone in each.zones.values()
            for name, count in getattr(zone, which).items()
        ]

    labels = ["source", "zone", "class"]
    yield _gauge("zone_objects", "Objects inside a zone now, by class.", labels, rows("inside", seen))
    yield _counter(
        "zone_entered", "Objects that have come in, or crossed a line inwards.", labels, rows("entered", sources)
    )
    yield _counter(
        "zone_left", "Objects that have gone out, or crossed a line outwards.", labels, rows("left", sources)
    )
    alarms = [((each.name, zone.name), int(zone.alarm)) for each in seen for zone in each.zones.values()]
    yield _gauge("zone_alarm", "Whether something is the matter in a zone.", ["source", "zone"], alarms)


Rows = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, what: str, labels: Sequence[str], rows: Rows) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"frameloom_{name}", what, labels=labels), rows)


def _counter(name: str, what: str, labels: Sequence[str], rows: Rows) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"frameloom_{name}", what, labels=labels), rows)


def _filled(family: Any, rows: Rows) -> Any:
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def own_version() -> str:
    """Return which frameloom this is."""
    try:
        return version("frameloom")
    except PackageNotFoundError:
        return "unknown"
