"""MQTT: events, and the state of sources and zones, to a broker.

    <topic>/status                  online or offline, retained; the broker says offline when we are gone
    <topic>/<source>/events         an event, as in the event log, with `id` and `reported_at` (UTC seconds)
    <topic>/<source>/state          {"state", "reason", "since", "persons"}, retained
    <topic>/<source>/zones/<zone>   {"zone", "objects", "inside", "entered", "left", "alarm"}, retained; objects, inside
                                    and alarm are null while the source gives no pictures
    <topic>/<source>/frames         what is in each frame, if that is asked for

Events wait in the spool until the broker has confirmed them (QoS 1): none is lost, and they stay in order; after a
connection that broke some may come twice, with the same `id`. State is not kept but made: what a topic should say is
compared with what was said on this connection, a few times a second, so that a broker that has forgotten everything
knows it again at once. Frames are for who looks on: they are sent as far as the connection takes them. Each of these
three has a page of its own (`mqtt_delivery`, `mqtt_retained`) or a few lines here; here is how they share a connection.
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
from pipeline.sinks.mqtt_delivery import Delivery
from pipeline.sinks.mqtt_link import Link, LinkLost, LinkOptions, NeedsOlderProtocol
from pipeline.sinks.mqtt_retained import Retained
from pipeline.sinks.mqtt_states import States
from pipeline.sinks.mqtt_tls import encryption
from pipeline.sinks.records import frame_line
from pipeline.sinks.sender import SYNC_EVERY_S, Backoff, Sender, as_json, why
from pipeline.sinks.sink import MissedEvents

logger = logging.getLogger(__name__)

PASSWORD_VARIABLE = "FRAMELOOM_MQTT_PASSWORD"
PORT, TLS_PORT = 1883, 8883
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
PROVEN_AFTER_S = 10.0
"""A connection that lasted so long was one: the next attempt may follow soon."""
STATES_EVERY_S = 0.25
FRAMES_WAITING = 8
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
        self._retained = Retained(receiver, self._states.wanted)
        self._delivery: Delivery
        self._frames: deque[tuple[str, bytes]] = deque(maxlen=FRAMES_WAITING)
        self._is_connected = self._older = False
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

    def missed(self, events: MissedEvents) -> None:
        """Keep what happened in a frame that was dropped; note who came and left there."""
        super().missed(events)
        self._states.note_events(events.source, ((line["frame"], line) for line in events.lines))

    def source_changed(self, state: SourceState) -> None:
        """Note a live source's new state."""
        self._states.source_changed(state)

    def end(self, source: str) -> None:
        """Note that nothing more comes of it."""
        self._states.end(source)

    # ------------------------------------------------------------------ the sender's thread

    def _send_until_closed(self) -> None:
        self._delivery = Delivery(self.receiver, self.spool, self._topic_of, self._settings.qos)
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
                self._delivery.begin_again()
                self._retained.begin_again()
                link.close()
            if time.monotonic() - began > PROVEN_AFTER_S:
                self._links.reset()
            self._pause(self._links.next())

    def _serve(self, link: Link) -> None:
        """Send over one connection until it breaks (LinkLost) or the sink is closed."""
        bell = self._bell
        assert bell is not None
        link.open(bell)
        self._is_connected = True
        self._retained.say(link, self._options.will_topic, b"online")
        if self._settings.discovery:
            link.subscribe(f"{self._settings.discovery_prefix}/status")
        while not self._is_finished(link):
            self._settle(link)
            self._hear(link)
            self._send_states(link)  # first: behind a long wait events fill the connection
            self._delivery.send(link)
            self._send_frames(link)
            self._sync()
            link.turn(bell, self._patience(link))
        self._settle(link)
        self._retained.say(link, self._options.will_topic, b"offline")
        while not link.is_quiet and time.monotonic() < self._end_at:
            link.turn(bell, 0.02)
            self._settle(link)

    def _is_finished(self, link: Link) -> bool:
        if not self._halt.is_set():
            return False
        if time.monotonic() >= self._end_at - GOODBYE_S:
            return True
        return not self.spool.waiting and link.is_quiet and self._retained.is_said

    def _patience(self, link: Link) -> float:
        if self._halt.is_set():
            return 0.01
        return STATES_EVERY_S if self._states.wanted else SYNC_EVERY_S

    def _settle(self, link: Link) -> None:
        """Take note of what the broker has confirmed or refused since the last time."""
        confirmed = link.confirmed()
        if any(each.refusal is None for each in confirmed):
            self._succeeded()
        self._delivery.settle(confirmed)
        self._retained.settle(confirmed)

    def _hear(self, link: Link) -> None:
        """Say everything again when Home Assistant has begun anew."""
        if any(payload == home_assistant.ONLINE for _, payload in link.messages):
            self._retained.repeat()
        link.messages.clear()

    def _send_states(self, link: Link) -> None:
        now = time.monotonic()
        if now - self._states_at < STATES_EVERY_S and not self._halt.is_set():
            return
        self._states_at = now if self._retained.send(link) else 0.0

    def _send_frames(self, link: Link) -> None:
        while self._frames and link.has_room:
            topic, payload = self._frames.popleft()
            if link.takes(topic, payload):
                link.publish(topic, payload, qos=0)

    def _topic_of(self, payload: bytes) -> str:
        """Return the topic of an event."""
        return f"{self._states.topic_of(str(json.loads(payload)['source']))}/events"
