"""MQTT: events, and the state of sources and zones, to a broker.

    <topic>/status                  online or offline, retained; the broker says offline when we are gone
    <topic>/<source>/events         an event, as in the event log, with `id` and `reported_at` (UTC seconds)
    <topic>/<source>/state          {"state", "reason", "since", "persons"}, retained
    <topic>/<source>/zones/<zone>   {"zone", "objects", "inside", "entered", "left", "alarm"}, retained
    <topic>/<source>/frames         what is in each frame, if that is asked for

Events wait in the spool until the broker has confirmed them (QoS 1): none is lost, and they stay in order; after a
connection that broke some may come twice, with the same `id`. State is not kept but made: what a topic should say is
compared with what was said on this connection, a few times a second, so that a broker that has forgotten everything
knows it again at once. Frames are for who looks on: they are sent as far as the connection takes them.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Sequence

from pipeline.capture.source import SourceInfo, SourceState
from pipeline.config.sink_settings import MqttSettings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.sinks import home_assistant
from pipeline.sinks.mqtt_link import Link, LinkLost, LinkOptions, NeedsOlderProtocol
from pipeline.sinks.mqtt_states import States
from pipeline.sinks.mqtt_tls import encryption
from pipeline.sinks.records import frame_line
from pipeline.sinks.sender import SYNC_EVERY_S, Backoff, Sender, as_json, why

logger = logging.getLogger(__name__)

PASSWORD_VARIABLE = "FRAMELOOM_MQTT_PASSWORD"
PORT, TLS_PORT = 1883, 8883
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
PROVEN_AFTER_S = 10.0
"""A connection that lasted so long was one: the next attempt may follow soon."""
STATES_EVERY_S = 0.25
FRAMES_WAITING = 8
STATE_QOS = 1
GOODBYE_S = 0.1
"""What is kept of the time for closing to say offline."""


class Mqtt(Sender):
    """The sink that publishes.

    Args:
        settings: of the broker.
    """

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._port = settings.port or (TLS_PORT if settings.tls else PORT)
        destination = f"{settings.host}:{self._port}/{settings.user}/{settings.topic}"
        receiver = f"the broker {settings.host}:{self._port}"
        super().__init__("mqtt", destination, receiver, settings.on, settings.spool, settings.spool_mb)
        self._states = States(settings)
        self._said: dict[str, bytes] = {}
        """What the retained topics say, as far as this connection knows."""
        self._saying: dict[int, str] = {}
        """Retained topics of messages on their way."""
        self._forbidden: set[str] = set()
        """Retained topics that we may not write: some brokers (Mosquitto 2.0.11) end the connection for it."""
        self._frames: deque[tuple[str, bytes]] = deque(maxlen=FRAMES_WAITING)
        self._is_connected = self._older = self._told_refused = False
        self._window: dict[int, tuple[int, bool]] = {}
        """Messages on their way: number of the event, and whether it is settled."""
        self._states_at = 0.0
        self._links = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Refuse what is missing: the library, certificates, a place for events."""
        try:
            import paho.mqtt.client  # noqa: F401
        except ImportError as error:
            raise ConfigError("sinks.mqtt needs the package paho-mqtt: pip install frameloom[mqtt]") from error
        encryption(self._settings)
        super().check(sources)

    def open(self) -> None:
        """Begin to connect."""
        settings = self._settings
        self._options = LinkOptions(
            settings.host,
            self._port,
            settings.client_id or f"frameloom-{socket.gethostname()}-{settings.topic}",
            f"{settings.topic}/status",
            settings.user,
            settings.password or (os.environ.get(PASSWORD_VARIABLE) if settings.user else None),
            encryption(self._settings),
            settings.keepalive_s,
        )
        super().open()

    # ------------------------------------------------------------------ the sink's thread

    def consume(self, frame: Frame) -> None:
        """Keep its events; note what has changed."""
        super().consume(frame)
        self._states.note(frame)
        if self._settings.frames and self._is_connected:
            self._frames.append(
                (f"{self._states.topic_of(frame.source)}/frames", as_json(frame_line(frame), self.name))
            )
            self._ring()

    def source_changed(self, state: SourceState) -> None:
        """Note a live source's new state."""
        self._states.source_changed(state)

    def end(self, source: str) -> None:
        """Note that nothing more comes of it."""
        self._states.end(source)

    # ------------------------------------------------------------------ the sender's thread

    def _send_until_closed(self) -> None:
        while not self._halt.is_set():
            began, needs_older = time.monotonic(), False
            link = Link(self._options, self._older)
            try:
                self._serve(link)
                return
            except NeedsOlderProtocol as error:
                logger.info("mqtt: %s: %s; asking it in MQTT 3.1.1", self.receiver, error)
                needs_older = True
            except LinkLost as error:
                self._failed(f"{self.receiver} cannot be used: {error}")
            except OSError as error:
                self._failed(f"{self.receiver} cannot be reached: {why(error)}")
            except Exception as error:  # of a library, about what a broker sent: a run of months goes on
                self._failed(f"{self.receiver} cannot be used: {type(error).__name__}: {error}")
            finally:
                self._is_connected = False
                self._older = needs_older
                self._settle(link)  # what it confirmed last, before it was gone
                self._window.clear()
                self._saying.clear()
                self.spool.rewind()
                link.close()
            if time.monotonic() - began > PROVEN_AFTER_S:
                self._links.reset()
            self._pause(self._links.next())

    def _serve(self, link: Link) -> None:
        """Send over one connection until it breaks (LinkLost) or the sink is closed."""
        bell = self._bell
        assert bell is not None
        link.open(bell)
        self._said = {}
        self._is_connected = True
        self._retain(link, self._options.will_topic, b"online")
        if self._settings.discovery:
            link.subscribe(f"{self._settings.discovery_prefix}/status")
        while not self._is_finished(link):
            self._settle(link)
            self._hear(link)
            self._send_states(link)  # first: behind a long wait events fill the connection
            self._send_events(link)
            self._send_frames(link)
            self._sync()
            link.turn(bell, self._patience(link))
        self._settle(link)
        self._retain(link, self._options.will_topic, b"offline")
        while not link.is_quiet and time.monotonic() < self._end_at:
            link.turn(bell, 0.02)
            self._settle(link)

    def _is_finished(self, link: Link) -> bool:
        if not self._halt.is_set():
            return False
        if time.monotonic() >= self._end_at - GOODBYE_S:
            return True
        return not self.spool.waiting and link.is_quiet and self._said == self._states.wanted

    def _patience(self, link: Link) -> float:
        if self._halt.is_set():
            return 0.01
        return STATES_EVERY_S if self._states.wanted else SYNC_EVERY_S

    def _settle(self, link: Link) -> None:
        """Confirm in the spool what the broker has confirmed, as far as nothing before it is open."""
        confirmed = link.confirmed()
        if any(refusal is None for _, refusal in confirmed):
            self._succeeded()
        for message, refusal in confirmed:
            if message in self._window:
                number, _ = self._window[message]
                self._window[message] = number, True
                if refusal is not None:
                    self._refused(number, refusal)
            topic = self._saying.pop(message, None)
            if topic is not None and refusal is not None:
                self._forbidden.add(topic)
                logger.warning("mqtt: %s does not take what is said on %s: %s", self.receiver, topic, refusal)
        done = None
        for message, (number, is_settled) in list(self._window.items()):
            if not is_settled:
                break
            del self._window[message]
            done = number
        if done is not None:
            self.spool.confirm(done + 1)

    def _refused(self, number: int, refusal: str) -> None:
        self.spool.refuse(number)
        if not self._told_refused:
            self._told_refused = True
            logger.warning("mqtt: %s does not take an event: %s: such events are given up", self.receiver, refusal)

    def _hear(self, link: Link) -> None:
        """Say everything again when Home Assistant has begun anew."""
        if any(payload == home_assistant.ONLINE for _, payload in link.messages):
            self._said = {}
        link.messages.clear()

    def _send_events(self, link: Link) -> None:
        while link.has_room and (found := self.spool.next()) is not None:
            number, payload = found
            source = _source_of(payload)
            topic = f"{self._states.topic_of(source)}/events"
            if not link.takes(topic, payload):
                self._window[-number - 1] = number, True
                self._refused(number, f"it takes at most {link.largest_packet} bytes")
                continue
            self._window[link.publish(topic, payload, self._settings.qos)] = number, False
        self._settle(link)

    def _send_states(self, link: Link) -> None:
        now = time.monotonic()
        if now - self._states_at < STATES_EVERY_S and not self._halt.is_set():
            return
        self._states_at = now
        for topic, payload in list(self._states.wanted.items()):
            if self._said.get(topic) != payload:
                if not link.has_room:
                    self._states_at = 0.0
                    return
                self._retain(link, topic, payload)
                self._said[topic] = payload

    def _retain(self, link: Link, topic: str, payload: bytes) -> None:
        if topic not in self._forbidden and link.takes(topic, payload):
            self._saying[link.publish(topic, payload, STATE_QOS, retain=True)] = topic

    def _send_frames(self, link: Link) -> None:
        while self._frames and link.has_room:
            topic, payload = self._frames.popleft()
            if link.takes(topic, payload):
                link.publish(topic, payload, qos=0)


def _source_of(payload: bytes) -> str:
    return str(json.loads(payload)["source"])
