"""Delivery: events on their way from the spool to the broker, in order, none lost.

The spool can only forget from its beginning, so an event that the broker has confirmed, or that is given up, waits here
until all before it are settled, too. When the connection breaks nobody knows what arrived: what is not settled is sent
again over the next one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.sinks.mqtt_link import Confirmed, Link
from pipeline.sinks.spool import Spool

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class OnItsWay:
    """An event that was taken out of the spool, and is not forgotten there."""

    number: int
    """Of the spool."""
    message: int | None
    """Of the connection; None: it was not sent, because it is too large for the broker."""
    is_settled: bool
    """Whether nothing more will happen to it: the broker has it, or has refused it, or it was not sent."""


class Delivery:
    """Sends what is in a spool.

    Args:
        receiver: as messages call the broker.
        spool: of the events.
        topic_of: returns the topic of an event's payload.
        qos: of the messages.
    """

    def __init__(self, receiver: str, spool: Spool, topic_of: Callable[[bytes], str], qos: int) -> None:
        self._receiver, self._spool, self._topic_of, self._qos = receiver, spool, topic_of, qos
        self._on_their_way: deque[OnItsWay] = deque()
        self._told_refused = False

    def send(self, link: Link) -> None:
        """Send as much as the connection takes now."""
        while link.has_room and (found := self._spool.next()) is not None:
            number, payload = found
            topic = self._topic_of(payload)
            if link.takes(topic, payload):
                self._on_their_way.append(OnItsWay(number, link.publish(topic, payload, self._qos), False))
            else:
                self._on_their_way.append(OnItsWay(number, None, True))
                self._refused(number, f"it takes at most {link.largest_packet} bytes")
        self._forget_settled()

    def settle(self, confirmed: Iterable[Confirmed]) -> None:
        """Take note of what the broker has said of messages; those of others are none of ours."""
        answers = {each.message: each for each in confirmed}
        for event in self._on_their_way:
            if event.message in answers:
                event.is_settled = True
                if (refusal := answers[event.message].refusal) is not None:
                    self._refused(event.number, refusal)
        self._forget_settled()

    def begin_again(self) -> None:
        """The connection is gone: take what was not settled out of the spool again."""
        self._on_their_way.clear()
        self._spool.rewind()

    def _forget_settled(self) -> None:
        end = None
        while self._on_their_way and self._on_their_way[0].is_settled:
            end = self._on_their_way.popleft().number + 1
        if end is not None:
            self._spool.confirm(end)

    def _refused(self, number: int, refusal: str) -> None:
        self._spool.refuse(number)
        if not self._told_refused:
            self._told_refused = True
            logger.warning("mqtt: %s does not take an event: %s: such events are given up", self._receiver, refusal)
