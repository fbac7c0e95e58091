"""MQTT against a real broker: Mosquitto with users, certificates and rules, killed, hanging and started again."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jinja2
import numpy as np
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.capture.source import SourceState
from pipeline.config.load import load_settings
from pipeline.config.sink_settings import MqttSettings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.sinks import mqtt
from pipeline.sinks.mqtt import Mqtt
from pipeline.sinks.mqtt_states import States, level
from pipeline.sinks.records import event_lines
from pipeline.sinks.sink import MissedEvents
from pipeline.zones import ZoneState
from tests.pipeline.fakes import make_frame
from tests.servers import mosquitto
from tests.servers.mosquitto import Certificates, Mosquitto, Reader
from tests.servers.mute import MuteServer, free_port, refused_port

EVENTS = "frameloom/door/events"
STATUS = "frameloom/status"
SQUARE = np.array([[0, 0], [2, 0], [2, 2]], np.float32)

pytestmark = pytest.mark.skipif(mosquitto.missing() is not None, reason=str(mosquitto.missing()))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Mqtt]]:
    """Makes and opens sinks; closes them."""
    monkeypatch.delenv("FRAMELOOM_MQTT_PASSWORD", raising=False)
    made: list[Mqtt] = []

    def make(broker: Mosquitto | None = None, **fields: Any) -> Mqtt:
        known = {"host": "localhost", "port": broker.port if broker else 1, "spool": tmp_path / "spool"}
        settings: dict[str, Any] = known | fields
        sink = Mqtt(MqttSettings(**settings))
        sink.check([])
        sink.open()
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


def frame(number: int, *events: dict[str, Any], zones: tuple[ZoneState, ...] = ()) -> Frame:
    made = make_frame("door", number)
    made.zones = zones
    made.events.extend(events)
    return made


def entered(number: int) -> Frame:
    return frame(number, {"event": "zone.enter", "zone": "Tür", "track": number})


def tracks(reader: Reader) -> list[int]:
    return [record["track"] for record in reader.on(EVENTS)]


def wait_for(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


# --- events -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_events_arrive_in_order_and_once(broker: Mosquitto, opened: Any, qos: int) -> None:
    with Reader(broker) as reader:
        sink = opened(broker, qos=qos)
        reader.until(lambda: reader.word(STATUS) == "online")
        for number in range(500):
            sink.consume(entered(number))
        reader.until(lambda: len(tracks(reader)) >= 500)
        assert tracks(reader) == list(range(500))
        record = reader.on(EVENTS)[7]
        assert abs(record.pop("reported_at") - time.time()) < 30
        assert re.fullmatch(r"[0-9a-f]{32}", record.pop("id"))
        assert record == {
            "type": "event",
            "source": "door",
            "frame": 7,
            "pts": round(7 / 30, 6),
            "wall_time": None,
            "event": "zone.enter",
            "zone": "Tür",
            "track": 7,
        }
        wait_for(lambda: not sink.spool.waiting)
        sink.close()
        assert (sink.dropped, sink.remark()) == (0, None)
        reader.until(lambda: reader.word(STATUS) == "offline")


def test_nothing_is_lost_and_nothing_out_of_order_when_the_broker_is_killed_and_started_again(
    broker: Mosquitto, opened: Any
) -> None:
    with Reader(broker) as reader:
        sink = opened(broker)
        slowest = 0.0
        for number in range(1300):  # 13 s, of which the broker is away for 10
            if number == 150:
                broker.kill()
            if number == 1150:
                broker.start()
            began = time.monotonic()
            sink.consume(entered(number))
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.01)
        reader.until(lambda: bool(tracks(reader)) and tracks(reader)[-1] == 1299, 30)
        first_time = list(dict.fromkeys(tracks(reader)))
        assert first_time == list(range(1300))
        ids = {record["id"] for record in reader.on(EVENTS)}
        assert len(ids) == 1300  # what came twice has the same id
        assert len(tracks(reader)) - 1300 <= 20  # no more than were on their way when it was killed
        wait_for(lambda: not sink.spool.waiting)
        assert sink.dropped == 0
        assert slowest < 0.2


def test_events_of_a_run_whose_broker_was_down_are_sent_by_the_next(broker: Mosquitto, opened: Any) -> None:
    with Reader(broker) as reader:
        broker.stop()
        sink = opened(broker)
        for number in range(30):
            sink.consume(entered(number))
        wait_for(lambda: sink._trouble)
        sink.close()
        remark = sink.remark()
        assert remark is not None
        assert remark.startswith(f"30 events wait for the broker localhost:{broker.port}; the next run sends them")
        assert "nothing listens there" in remark
        broker.start()
        opened(broker).consume(entered(30))
        reader.until(lambda: len(tracks(reader)) == 31)
        assert tracks(reader) == list(range(31))


def test_a_broker_that_hangs_is_noticed_and_events_come_when_it_goes_on(
    broker: Mosquitto, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Reader(broker) as reader:
        sink = opened(broker, keepalive_s=5)
        reader.until(lambda: reader.word(STATUS) == "online")
        broker.pause()
        for number in range(100):
            sink.consume(entered(number))
        wait_for(lambda: "does not answer any more" in caplog.text, 15)
        broker.resume()
        reader.until(lambda: len(set(tracks(reader))) == 100, 30)
        assert list(dict.fromkeys(tracks(reader))) == list(range(100))
        assert sink.dropped == 0


def test_the_broker_says_offline_when_we_are_killed_and_the_next_run_sends_what_was_left(
    broker: Mosquitto, opened: Any, tmp_path: Path
) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from pipeline.config.sink_settings import MqttSettings; from pipeline.sinks.mqtt import Mqtt\n"
        "from tests.pipeline.test_mqtt import entered\n"
        "sink = Mqtt(MqttSettings(host='localhost', port=int(sys.argv[1]), spool=Path(sys.argv[2]))); sink.open()\n"
        "for number in range(100_000):\n"
        "    sink.consume(entered(number)); print(number, flush=True); time.sleep(0.001)\n"
    )
    with Reader(broker) as reader:
        command = [sys.executable, "-c", program, str(broker.port), str(tmp_path / "spool")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None
            reader.until(lambda: len(tracks(reader)) > 300)
            process.kill()
            said = process.stdout.read().split()
        reader.until(lambda: reader.word(STATUS) == "offline")
        last = int(said[-1])
        sink = opened(broker)
        reader.until(lambda: reader.word(STATUS) == "online")
        wait_for(lambda: not sink.spool.waiting)
        reader.until(lambda: max(tracks(reader)) >= last)
        found = list(dict.fromkeys(tracks(reader)))
        assert found == list(range(len(found)))
        assert len(found) - last in (1, 2)  # it may have been killed between keeping one and telling us
        assert len({record["id"] for record in reader.on(EVENTS)}) == len(found)


# --- state --------------------------------------------------------------------------------------------------------


def test_the_state_of_sources_zones_and_persons_is_retained(broker: Mosquitto, opened: Any) -> None:
    sink = opened(broker)
    area = ZoneState("Tür 1/2", SQUARE, inside={"person": 2, "dog": 1}, entered={"person": 5}, left={"person": 3})
    line = ZoneState("line#1", SQUARE[:2], is_line=True, entered={"car": 4}, alarm=True)
    sink.source_changed(SourceState("door", "streaming", wall_time=12.5))
    sink.consume(frame(0, {"event": "person.appeared", "name": "Zoë"}, zones=(area, line)))
    sink.consume(frame(1, {"event": "person.appeared", "name": "Ann"}))
    sink.consume(frame(2, {"event": "person.left", "name": "Zoë"}, {"event": "person.unknown"}))
    with Reader(broker) as early:
        early.until(lambda: (early.last("frameloom/door/state") or {}).get("persons") == ["Ann"])
        early.until(lambda: early.last("frameloom/door/zones/line%231") is not None)
        seen = early.last("frameloom/door/zones/Tür 1%2F2")
        sink.source_changed(SourceState("door", "waiting", "timeout", 20.0))
        early.until(lambda: early.last("frameloom/door/zones/line%231")["alarm"] is None)
    with Reader(broker) as reader:  # who comes later is told at once
        reader.until(lambda: len({topic for topic, _, is_retained in reader.messages if is_retained} - {STATUS}) == 3)
        assert reader.last("frameloom/door/state") == {
            "persons": ["Ann"],
            "state": "waiting",
            "reason": "timeout",
            "since": 20.0,
        }
        assert seen == {
            "zone": "Tür 1/2",
            "objects": 3,
            "inside": {"person": 2, "dog": 1},
            "entered": {"person": 5},
            "left": {"person": 3},
            "alarm": False,
        }
        unknown = seen | {"objects": None, "inside": None, "alarm": None}  # while nobody looks
        assert reader.last("frameloom/door/zones/Tür 1%2F2") == unknown
        sink.consume(frame(3, zones=(area,)))  # one that it gave before it went away
        sink.source_changed(SourceState("door", "streaming", wall_time=30.0))
        sink.consume(frame(4, zones=(area,)))
        reader.until(lambda: reader.last("frameloom/door/zones/Tür 1%2F2") == seen)
        sink.end("door")
        reader.until(lambda: reader.last("frameloom/door/zones/Tür 1%2F2") == unknown)
        reader.until(lambda: reader.last("frameloom/door/state")["state"] == "stopped")
        assert reader.last("frameloom/door/state")["persons"] == []


def test_a_frame_from_before_an_outage_says_nothing_of_zones_any_more() -> None:
    states = States(MqttSettings(host="h"))
    area = ZoneState("yard", SQUARE, inside={"person": 2}, alarm=True)
    states.note(frame(0, zones=(area,)))
    states.source_changed(SourceState("door", "stalled"))
    states.note(frame(1, zones=(area,)))
    said = json.loads(states.wanted["frameloom/door/zones/yard"])
    assert (said["objects"], said["inside"], said["alarm"]) == (None, None, None)


def test_a_camera_is_away_since_it_went_away_and_not_since_it_was_last_tried() -> None:
    states = States(MqttSettings(host="h"))
    since = []
    for second, word in enumerate(
        ["connecting", "streaming", "stalled", "waiting", "connecting", "waiting", "streaming"]
    ):
        states.source_changed(SourceState("door", word, wall_time=float(second)))  # type: ignore[arg-type]
        since.append(json.loads(states.wanted["frameloom/door/state"])["since"])
    assert since == [0, 1, 2, 2, 2, 2, 6]


def test_who_left_in_a_frame_that_was_dropped_is_not_there_any_more(broker: Mosquitto, opened: Any) -> None:
    def missed(number: int, event: str) -> MissedEvents:
        return MissedEvents("door", tuple(event_lines(frame(number, {"event": event, "name": "Ann"}))))

    with Reader(broker) as reader:
        sink = opened(broker)
        sink.consume(frame(0, {"event": "person.appeared", "name": "Ann"}))
        reader.until(lambda: (reader.last("frameloom/door/state") or {}).get("persons") == ["Ann"])
        sink.missed(missed(1, "person.left"))
        reader.until(lambda: reader.last("frameloom/door/state")["persons"] == [])
        assert [record["event"] for record in reader.on(EVENTS)] == ["person.appeared", "person.left"]
        sink.consume(frame(3, {"event": "person.appeared", "name": "Ann"}))
        sink.missed(missed(2, "person.left"))  # older than what is known
        sink.consume(frame(4, {"event": "person.appeared", "name": "Zoë"}))
        reader.until(lambda: reader.last("frameloom/door/state")["persons"] == ["Ann", "Zoë"])


def test_state_is_sent_when_it_changes_and_a_few_times_a_second_at_most(broker: Mosquitto, opened: Any) -> None:
    with Reader(broker) as reader:
        sink = opened(broker)
        reader.until(lambda: reader.word(STATUS) == "online")
        began = time.monotonic()
        for number in range(100):
            sink.consume(frame(number, zones=(ZoneState("yard", SQUARE, entered={"person": number}),)))
            time.sleep(0.01)
        reader.until(lambda: (reader.last("frameloom/door/zones/yard") or {}).get("entered") == {"person": 99})
        said = reader.on("frameloom/door/zones/yard")
        assert 2 <= len(said) <= (time.monotonic() - began) / mqtt.STATES_EVERY_S + 2
        for number in range(100, 150):
            sink.consume(frame(number, zones=(ZoneState("yard", SQUARE, entered={"person": 99}),)))
            time.sleep(0.01)
        assert len(reader.on("frameloom/door/zones/yard")) == len(said)


def test_a_broker_that_has_forgotten_everything_is_told_again(tmp_path: Path, opened: Any) -> None:
    with Mosquitto(tmp_path / "forgetful") as broker:
        sink = opened(broker)
        sink.consume(frame(0, zones=(ZoneState("yard", SQUARE),)))
        wait_for(lambda: sink._states.wanted and sink._retained.is_said)
        broker.kill()
        for path in (tmp_path / "forgetful").glob("*.db*"):
            path.unlink()
        broker.start()
        with Reader(broker) as reader:
            reader.until(lambda: reader.last("frameloom/door/zones/yard") is not None)
            reader.until(lambda: reader.last("frameloom/door/state") is not None)
            reader.until(lambda: reader.word(STATUS) == "online")


def test_frames_are_sent_on_request_while_connected(broker: Mosquitto, opened: Any) -> None:
    with Reader(broker) as reader:
        sink = opened(broker, frames=True)
        sink.consume(frame(0))  # before the connection: nobody waits for it
        reader.until(lambda: reader.word(STATUS) == "online")
        wait_for(lambda: sink._is_connected)
        for number in range(1, 20):
            sink.consume(frame(number))
            time.sleep(0.01)
        reader.until(lambda: (reader.last("frameloom/door/frames") or {}).get("frame") == 19)
        records = reader.on("frameloom/door/frames")
        assert [record["frame"] for record in records] == list(range(1, 20))
        assert records[0]["detections"] == []
        assert sink.dropped == 0


@pytest.mark.parametrize("name", ["a+b", "#", "a/b", "%2F", "\x00", "\n", "Zoë 猫", "$SYS"])
def test_names_are_one_level_of_a_topic_and_stay_apart(name: str) -> None:
    escaped = level(name)
    assert not re.search(r"[+#/\0-\x1f]", escaped)
    assert unquote(escaped) == name


# --- Home Assistant -----------------------------------------------------------------------------------------------

COMMON = {"name", "unique_id", "state_topic", "value_template", "availability_topic", "device", "origin"}
ALLOWED = {
    "binary_sensor": COMMON | {"device_class", "entity_category"},
    "sensor": COMMON | {"state_class"},
    "event": COMMON | {"event_types"},
}


def rendered(template: str, value: Any) -> str:
    """As Home Assistant does it: Jinja in a sandbox, with its filter to_json."""
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    return environment.from_string(template).render(value_json=value)


def test_home_assistant_is_told_of_sources_and_zones_and_again_after_its_birth(broker: Mosquitto, opened: Any) -> None:
    with Reader(broker) as reader:
        sink = opened(broker, discovery=True, topic="home/cams")
        area = ZoneState("Tür", SQUARE, inside={"person": 2}, entered={"person": 5, "dog": 1})
        line = ZoneState("kerb", SQUARE[:2], is_line=True, left={"car": 4}, alarm=True)
        appeared = {"event": "person.appeared", "name": "Ann"}
        sink.consume(frame(0, appeared, zones=(area, line)))
        configurations: dict[str, Any] = {}

        def all_there() -> bool:
            configurations.clear()
            configurations.update(
                {topic: reader.last(topic) for topic, *_ in reader.messages if topic.endswith("/config")}
            )
            return len(configurations) == 11 and len(reader.on("home/cams/door/events")) == 1

        reader.until(all_there)
        values: dict[str, str] = {}
        for topic, record in configurations.items():
            found = re.fullmatch(r"homeassistant/(\w+)/([\w-]+)/([\w-]+)/config", topic, re.ASCII)
            assert found, topic
            assert COMMON <= set(record) <= ALLOWED[found[1]]
            assert record["availability_topic"] == "home/cams/status"
            assert record["device"]["name"] == "door"
            values[f"{found[1]} {record['name']}"] = rendered(
                record["value_template"], reader.last(record["state_topic"])
            )
        assert len({record["unique_id"] for record in configurations.values()}) == 11
        assert len({record["device"]["identifiers"][0] for record in configurations.values()}) == 1
        event = values.pop("event Events")
        assert '"event_type": "person.appeared"' in event
        assert values == {
            "binary_sensor Connection": "ON",
            "sensor Persons": "1",
            "binary_sensor Tür alarm": "OFF",
            "binary_sensor Tür occupancy": "ON",
            "sensor Tür inside": "2",
            "sensor Tür entered": "6",
            "sensor Tür left": "0",
            "binary_sensor kerb alarm": "ON",
            "sensor kerb in": "0",
            "sensor kerb out": "4",
        }
        sink.end("door")
        reader.until(lambda: reader.last("home/cams/door/zones/kerb")["alarm"] is None)
        unknown = {
            f"{topic.split('/')[1]} {record['name']}"
            for topic, record in configurations.items()
            if "/event/" not in topic
            and rendered(record["value_template"], reader.last(record["state_topic"])) == "None"
        }
        assert unknown == {
            "sensor Persons",
            "binary_sensor Tür alarm",
            "binary_sensor Tür occupancy",
            "sensor Tür inside",
            "binary_sensor kerb alarm",
        }
        before = len([1 for topic, *_ in reader.messages if topic.endswith("/config")])
        reader.client.publish("homeassistant/status", b"online")
        reader.until(lambda: len([1 for topic, *_ in reader.messages if topic.endswith("/config")]) == before + 11)
    with Reader(broker) as later:
        later.client.subscribe("homeassistant/#")
        later.until(
            lambda: len({topic for topic, _, kept in later.messages if kept and topic.endswith("/config")}) == 11
        )


def test_nobody_is_told_where_discovery_is_off(broker: Mosquitto, opened: Any) -> None:
    with Reader(broker) as reader:
        sink = opened(broker)
        sink.consume(frame(0, zones=(ZoneState("yard", SQUARE),)))
        reader.until(lambda: reader.last("frameloom/door/zones/yard") is not None)
        assert not [topic for topic, *_ in reader.messages if topic.startswith("homeassistant")]


# --- who may -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_environment", [False, True])
def test_a_user_with_a_password_is_let_in(
    tmp_path: Path, opened: Any, monkeypatch: pytest.MonkeyPatch, from_environment: bool
) -> None:
    with (
        Mosquitto(tmp_path / "b", users={"cam": "pä55 w", "reader": "r"}) as broker,
        Reader(broker, "reader", "r") as reader,
    ):
        if from_environment:
            monkeypatch.setenv("FRAMELOOM_MQTT_PASSWORD", "pä55 w")
        sink = opened(broker, user="cam", password=None if from_environment else "pä55 w")
        sink.consume(entered(0))
        reader.until(lambda: tracks(reader) == [0])


def test_a_refused_login_is_told_once_without_the_password_and_events_wait(
    tmp_path: Path, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Mosquitto(tmp_path / "b", users={"cam": "right"}) as broker:
        sink = opened(broker, user="cam", password="WR0NG")
        for number in range(5):
            sink.consume(entered(number))
        wait_for(lambda: broker.log.count("not authorised") >= 3)
        sink.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"the broker localhost:{broker.port} cannot be used: it refuses this user, password or topic" in warnings[0]
    remark = sink.remark() or ""
    assert remark.startswith("5 events wait")
    assert "refuses this user" in remark
    assert "WR0NG" not in caplog.text + remark


def test_a_topic_that_the_user_may_not_write_is_told_and_counted(
    tmp_path: Path, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    acl = "user cam\ntopic readwrite frameloom/status\n"
    with Mosquitto(tmp_path / "b", users={"cam": "p"}, acl=acl) as broker:
        sink = opened(broker, user="cam", password="p")
        for number in range(3):
            sink.consume(entered(number))
        wait_for(lambda: sink.dropped == 3, 60)
        assert caplog.text.count("does not take an event: it refuses this user, password or topic") == 1
        assert caplog.text.count("does not take what is said on frameloom/door/state: it refuses this user") == 1


def test_an_encrypted_broker_with_a_certificate_of_ones_own_authority(tmp_path: Path, opened: Any) -> None:
    certificates = Certificates(tmp_path)
    certificate, key = certificates.client
    with (
        Mosquitto(tmp_path / "b", certificates=certificates, ask_clients=True) as broker,
        Reader(broker) as reader,
    ):
        fields = {"tls": True, "ca_file": certificates.authority, "cert_file": certificate, "key_file": key}
        sink = opened(broker, **fields)
        for number in range(300):
            sink.consume(entered(number))
        reader.until(lambda: len(tracks(reader)) >= 300)
        assert tracks(reader) == list(range(300))
        sink.close()
        reader.until(lambda: reader.word(STATUS) == "offline")


@pytest.mark.parametrize("kind", ["unknown authority", "other name", "no encryption there", "not encrypted here"])
def test_a_connection_that_cannot_be_trusted_is_not_used(
    tmp_path: Path, opened: Any, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    certificates = Certificates(tmp_path)
    with Mosquitto(tmp_path / "b", certificates=None if kind == "no encryption there" else certificates) as broker:
        ways: dict[str, dict[str, Any]] = {
            "unknown authority": {"tls": True},
            "other name": {"tls": True, "ca_file": certificates.authority, "host": "127.0.0.2"},
            "no encryption there": {"tls": True, "ca_file": certificates.authority},
            "not encrypted here": {},
        }
        sink = opened(broker, **ways[kind])
        sink.consume(entered(0))
        wait_for(lambda: caplog.records)
        sink.close()
    says = {
        "unknown authority": "its certificate is not trusted: ",
        "other name": "nothing listens there",
        "no encryption there": "no encrypted connection|it closed the connection|it does not answer",
        "not encrypted here": "it closed the connection",
    }[kind]
    assert re.search(says, caplog.text)
    assert (sink.spool.waiting, sink.dropped) == (1, 0)


# --- what is not there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["refuses", "mute", "silent", "nonsense", "nowhere"])
def test_closing_takes_a_moment_whatever_hangs(opened: Any, kind: str) -> None:
    with (
        refused_port() as port,
        MuteServer() as mute,
        MuteServer(accept=False) as silent,
        MuteServer(b"\xff" * 9) as odd,
    ):
        ports = {
            "refuses": port,
            "mute": mute.port,
            "silent": silent.port,
            "nonsense": odd.port,
            "nowhere": free_port(),
        }
        sink = opened(host="192.0.2.1" if kind == "nowhere" else "127.0.0.1", port=ports[kind])
        took = []
        for number in range(100):
            began = time.monotonic()
            sink.consume(entered(number))
            took.append(time.monotonic() - began)
        time.sleep(0.4)
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 0.35
    assert sorted(took)[90] < 0.005
    assert "100 events wait for the broker" in (sink.remark() or "")
    assert sink.dropped == 0


def test_a_broker_that_knows_mqtt_3_only_is_asked_in_its_language(
    opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # what a broker of 3.1.1 answers to a newer protocol: CONNACK 1, "unacceptable protocol version"
    with MuteServer(b"\x20\x02\x00\x01") as old:
        opened(host="127.0.0.1", port=old.port).consume(entered(0))
        wait_for(lambda: old.connections >= 3)
    assert "asking it in MQTT 3.1.1" in caplog.text


def test_events_arrive_in_mqtt_3_too(broker: Mosquitto, tmp_path: Path) -> None:
    with Reader(broker) as reader:
        sink = Mqtt(MqttSettings(host="localhost", port=broker.port, spool=tmp_path / "spool"))
        sink._older = True  # as after an answer of a broker that knows nothing newer
        sink.open()
        for number in range(100):
            sink.consume(entered(number))
        reader.until(lambda: len(tracks(reader)) >= 100)
        sink.close()
        assert tracks(reader) == list(range(100))
        reader.until(lambda: reader.word(STATUS) == "offline")
        assert "(p2, c1, k30)" in broker.log  # protocol level 4, which it calls 2


def test_an_event_that_is_too_large_for_the_broker_is_given_up_alone(
    tmp_path: Path, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path / "b", largest_packet=1000) as broker, Reader(broker) as reader:
        sink = opened(broker, frames=True)
        for number in range(3):
            sink.consume(frame(number, {"event": "zone.enter", "track": number, "note": "x" * 2000 * (number == 1)}))
        reader.until(lambda: len(tracks(reader)) == 2)
        assert tracks(reader) == [0, 2]
        wait_for(lambda: not sink.spool.waiting)
        assert sink.dropped == 1
        assert "does not take an event: it takes at most 1000 bytes" in caplog.text


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("{host: 'mqtt://a'}", "is no host"),
        ("{host: 'a:1883'}", "is no host"),
        ("{host: a, topic: 'a/+/b'}", "is no topic"),
        ("{host: a, topic: '/a'}", "is no topic"),
        ("{host: a, topic: $SYS}", "is no topic"),
        ("{host: a, discovery_prefix: '#'}", "is no topic"),
        ("{host: a, ca_file: ca.pem}", "has certificates, but no tls: true"),
        ("{host: a, tls: true, key_file: k.pem}", "has a key_file, but no cert_file"),
        ("{host: a, password: T0PSECRET}", "has a password, but no user"),
        ("{host: a, user: u, password: T0PSECRET, qos: 3}", "qos"),
        ("{host: a, user: u, port: 0, password: 'T0PSECRET'}", "port"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, yaml: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(f"sinks:\n  mqtt: {yaml}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "c.yaml")
    assert says in str(caught.value)
    assert "T0PSECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"ca_file": "missing.pem"}, r"sinks\.mqtt\.ca_file: cannot read .*missing\.pem: No such file"),
        ({"ca_file": "text"}, r"sinks\.mqtt\.ca_file: .*text holds no certificates"),
        ({"cert_file": "text"}, r"sinks\.mqtt\.cert_file: no certificate with its key .* in .*text"),
    ],
)
def test_missing_certificates_are_refused_before_the_run(tmp_path: Path, fields: dict[str, str], says: str) -> None:
    (tmp_path / "text").write_text("no certificate")
    paths = {key: tmp_path / name for key, name in fields.items()}
    sink = Mqtt(MqttSettings(host="localhost", tls=True, spool=tmp_path / "spool", **paths))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=says):
        sink.check([])


def test_without_the_library_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("paho")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paho", None)  # which is how a missing package looks
    with pytest.raises(ConfigError, match=r"pip install frameloom\[mqtt\]"):
        Mqtt(MqttSettings(host="localhost", spool=tmp_path / "spool")).check([])
