"""Retained: topics that always say how things are. What they should say is compared with what the broker was told.

Nothing of it is kept for a broker that is away: a new connection knows nothing, and is told everything as it is then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from pipeline.sinks.mqtt_link import Confirmed, Link

logger = logging.getLogger(__name__)

QOS = 1


class Retained:
    """What a connection was told.

    Args:
        receiver: as messages call the broker.
        wanted: payload by topic, as it should be now; another thread changes it.
    """

    def __init__(self, receiver: str, wanted: Mapping[str, bytes]) -> None:
        self._receiver, self._wanted = receiver, wanted
        self._said: dict[str, bytes] = {}
        self._on_their_way: dict[int, str] = {}
        """Topic by message."""
        self._forbidden: set[str] = set()
        """Topics that we may not write: some brokers (Mosquitto 2.0.11) end the connection for it."""

    @property
    def is_said(self) -> bool:
        """Whether the broker was told everything."""
        return self._said == self._wanted

    def send(self, link: Link) -> bool:
        """Say what has changed, as far as the connection takes it; return whether that is all."""
        for topic, payload in list(self._wanted.items()):
            if self._said.get(topic) != payload:
                if not link.has_room:
                    return False
                self.say(link, topic, payload)
                self._said[topic] = payload
        return True

    def say(self, link: Link, topic: str, payload: bytes) -> None:
        """Have one topic say something."""
        if topic not in self._forbidden and link.takes(topic, payload):
            self._on_their_way[link.publish(topic, payload, QOS, retain=True)] = topic

    def settle(self, confirmed: Iterable[Confirmed]) -> None:
        """Take note of topics that the broker refuses; messages of others are none of ours."""
        for message, refusal in confirmed:
            topic = self._on_their_way.pop(message, None)
            if topic is not None and refusal is not None:
                self._forbidden.add(topic)
                logger.warning("mqtt: %s does not take what is said on %s: %s", self._receiver, topic, refusal)

    def begin_again(self) -> None:
        """Nobody knows any more what the broker knows: say everything again."""
        self._said.clear()
        self._on_their_way.clear()

    def repeat(self) -> None:
        """Say everything again over the same connection: a reader has begun anew."""
        self._said.clear()
