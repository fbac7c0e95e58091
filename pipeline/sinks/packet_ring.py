"""PacketRing: the last seconds of a source, encoded, so that a clip can begin before its event.

Encoded, because 5 s of 1080p at 30 Hz take 467 MB as pictures and 4 as packets. It begins with a keyframe at any
time, so what it holds plays; whole groups of pictures leave at its other end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from pipeline.sinks.video import SECOND, Encoded


class PacketRing:
    """Encoded pictures of one source; the first is a keyframe.

    Holds `seconds` before the newest picture and what the first of them needs (up to its keyframe: one more second),
    and never more than `most_bytes`: where one group alone is larger, it becomes empty and wants a keyframe.
    """

    def __init__(self, seconds: float, most_bytes: float) -> None:
        self._ticks = round(seconds * SECOND)
        self._most_bytes = most_bytes
        self._groups: deque[list[Encoded]] = deque()
        self._overflowed = False
        self.size = 0
        """Bytes."""

    def __iter__(self) -> Iterator[Encoded]:
        for group in self._groups:
            yield from group

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def wants_keyframe(self) -> bool:
        """Return, once, whether a group was too large, so that nothing is held until the next keyframe."""
        wants, self._overflowed = self._overflowed, False
        return wants

    def add(self, picture: Encoded) -> None:
        """Take the next picture; let go of what is too old or too much. Another stream's end the one before."""
        if self._groups and self._groups[-1][-1].stream is not picture.stream:
            self.clear()
        if picture.is_keyframe:
            self._groups.append([])
        elif not self._groups:
            return
        self._groups[-1].append(picture)
        self.size += len(picture.data)
        while len(self._groups) > 1 and self._groups[1][0].ticks <= picture.ticks - self._ticks:
            self._let_go()
        while self.size > self._most_bytes:
            self._let_go()
            self._overflowed = not self._groups

    def before(self, ticks: int) -> list[Encoded]:
        """Return what comes `seconds` before a time, and what is needed to decode that; from a keyframe on.

        The newest that is held may be older than that time by what the encoder holds back.
        """
        held = list(self._groups)
        while len(held) > 1 and held[1][0].ticks <= ticks - self._ticks:
            held.pop(0)
        return [picture for group in held for picture in group]

    def clear(self) -> None:
        """Hold nothing."""
        self._groups.clear()
        self.size = 0

    def _let_go(self) -> None:
        self.size -= sum(len(picture.data) for picture in self._groups.popleft())
