"""Link: one connection to an MQTT broker, worked on the caller's thread.

MQTT 5, because there a broker says why it refuses a login or a message; under 3.1.1 a message that the user may not
publish is confirmed like any other, and lost. A broker that does not understand it is asked again in 3.1.1. Each link
has a client of its own: what paho would keep over a reconnect is the spool's, which alone knows what was confirmed.
"""

from __future__ import annotations

import select
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.sinks.sender import Doorbell

if TYPE_CHECKING:
    from paho.mqtt.client import Client

OVERHEAD = 64
"""Bytes of a packet besides its topic and payload, at most."""
CONNECT_TIMEOUT_S = 5.0
"""For each of: reaching the host, encrypting, and being let in."""
IN_FLIGHT = 20
"""Messages that wait for their confirmation at a time: on a line of 50 ms about 400 a second."""
SILENCES = 2
"""A broker that confirms nothing for so many times `keepalive_s` is dead."""
SILENT = "it does not answer any more"


class LinkLost(Exception):
    """The broker cannot be reached, refuses, or is gone; the text says why."""


class NeedsOlderProtocol(LinkLost):
    """The broker ended the connection before it said anything else, or said that it knows no MQTT 5."""


@dataclass(frozen=True)
class LinkOptions:
    """What a connection needs to know."""

    host: str
    port: int
    client_id: str
    will_topic: str
    """Where the broker says `offline` when we are gone without a goodbye."""
    user: str | None = None
    password: str | None = None
    context: ssl.SSLContext | None = None
    keepalive_s: int = 30


class Confirmed(NamedTuple):
    """What a broker says of a message."""

    message: int
    refusal: str | None
    """None: it has it."""


class Link:
    """A connection, from its first packet to its last.

    Args:
        options: of the connection.
        older: speak MQTT 3.1.1.
    """

    def __init__(self, options: LinkOptions, older: bool = False) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        self._options = options
        self._older = older
        self._let_in: bool | None = None
        self._end: str | None = None
        self._confirmed: list[Confirmed] = []
        self._in_flight: set[int] = set()
        self._heard_at = time.monotonic()
        self.most_in_flight = IN_FLIGHT
        self.largest_packet: int | None = None
        """Bytes of a packet that the broker takes; None: any."""
        self.messages: list[tuple[str, bytes]] = []
        """What has come: topic and payload; to be emptied by its reader."""
        self._client: Client = Client(
            CallbackAPIVersion.VERSION2,
            options.client_id,
            protocol=MQTTProtocolVersion.MQTTv311 if older else MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(0)  # the callers' is the limit that counts
        if options.user is not None:
            self._client.username_pw_set(options.user, options.password)
        if options.context is not None:
            self._client.tls_set_context(options.context)
        self._client.will_set(options.will_topic, b"offline", qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect

    # ------------------------------------------------------------------ what the broker says

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._let_in = not reason.is_failure
        if reason.is_failure:
            self._end = _words(reason)
        self.most_in_flight = min(IN_FLIGHT, getattr(properties, "ReceiveMaximum", None) or IN_FLIGHT)
        self.largest_packet = getattr(properties, "MaximumPacketSize", None)

    def _on_publish(self, client: Any, data: Any, message: int, reason: Any, properties: Any) -> None:
        self._confirmed.append(Confirmed(message, _words(reason) if reason.is_failure else None))

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload))

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end = f"it ended the connection: {_words(reason)}"
        elif self._end is None and str(reason) == "Keep alive timeout":
            self._end = SILENT

    # ------------------------------------------------------------------ what we do

    def open(self, bell: Doorbell) -> None:
        """Connect and log in.

        Raises:
            LinkLost: the broker refuses.
            OSError: it cannot be reached.
        """
        self._client.connect(self._options.host, self._options.port, self._options.keepalive_s, **self._cleanly())
        until = time.monotonic() + CONNECT_TIMEOUT_S
        while self._let_in is None:
            if time.monotonic() > until:
                raise LinkLost("it took the connection, but says nothing: is it an MQTT broker?")
            self.turn(bell, 0.1)
        if not self._let_in:
            raise (NeedsOlderProtocol if self._end and "protocol" in self._end else LinkLost)(self._end or "it refuses")

    def _cleanly(self) -> dict[str, Any]:
        return {} if self._older else {"clean_start": True}

    def turn(self, bell: Doorbell, timeout_s: float) -> None:
        """Wait for the broker or the bell, and do what there is to do.

        Raises:
            LinkLost: the connection is over.
        """
        connection: Any = self._client.socket()
        if connection is None:
            raise self._lost()
        poll = select.poll()
        poll.register(connection, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poll.register(bell, select.POLLIN)
        is_pending = self._options.context is not None and connection.pending()
        ready = dict(poll.poll(0 if is_pending else timeout_s * 1e3))
        if bell.fileno() in ready:
            bell.hush()
        asked = ready.get(connection.fileno(), 0)
        if asked & ~select.POLLOUT or is_pending:
            self._client.loop_read()
            self._heard_at = time.monotonic()
        if asked & select.POLLOUT:
            self._client.loop_write()
        self._client.loop_misc()
        if self._client.socket() is None:
            raise self._lost()
        if self._in_flight and time.monotonic() - self._heard_at > SILENCES * self._options.keepalive_s:
            raise LinkLost(SILENT)

    def _lost(self) -> LinkLost:
        if self._let_in is None and self._end is None and not self._older:
            return NeedsOlderProtocol("it closed the connection")
        if self._end and "protocol" in self._end:
            return NeedsOlderProtocol(self._end)
        return LinkLost(
            self._end or ("it closed the connection" if self._let_in is None else "the connection was lost")
        )

    @property
    def has_room(self) -> bool:
        """Whether another message may be sent now."""
        return len(self._in_flight) < self.most_in_flight and not self._client.want_write()

    @property
    def is_quiet(self) -> bool:
        """Whether everything is written and confirmed."""
        return not self._in_flight and not self._client.want_write()

    def takes(self, topic: str, payload: bytes) -> bool:
        """Whether a message is not too large for the broker."""
        return self.largest_packet is None or len(topic.encode()) + len(payload) + OVERHEAD <= self.largest_packet

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> int:
        """Send a message; return its number, by which `confirmed` will speak of it."""
        if not self._in_flight:
            self._heard_at = time.monotonic()
        sent = self._client.publish(topic, payload, qos, retain)
        if qos:
            self._in_flight.add(sent.mid)
        return sent.mid

    def confirmed(self) -> list[Confirmed]:
        """Return what the broker has confirmed or refused since the last call."""
        found, self._confirmed = self._confirmed, []
        self._in_flight.difference_update(each.message for each in found)
        return found

    def subscribe(self, topic: str) -> None:
        """Ask for messages."""
        self._client.subscribe(topic, qos=0)

    def close(self) -> None:
        """Say goodbye, without waiting for an answer."""
        self._client.disconnect()


def _words(reason: Any) -> str:
    """Return a reason code's name as part of a sentence."""
    name = str(reason).lower()
    return {
        "not authorized": "it refuses this user, password or topic (not authorized)",
        "bad user name or password": "it refuses the user or the password",
        "session taken over": "another client has the same client_id",
        "unsupported protocol version": "it does not know this version of the protocol",
    }.get(name, f"it says {name!r}")
