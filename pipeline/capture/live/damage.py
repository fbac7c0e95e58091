"""DamageFilter: which decoded pictures of a live stream are fit to be used after packets were lost.

TABLE
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from av.codec.context import Flags
from av.video.frame import PictureType

PATIENCE_S = 5.0
"""Longest wait for a keyframe."""
HEAD = 512
"""Bytes of a NAL unit that are looked at: slice headers and parameter sets are shorter."""


def prepare(context: Any) -> None:
    """Set the options that make a decoder tell of damage; before its first packet.

    Args:
        context: an `av.CodecContext` of a video decoder; its `options` and flags are kept.
    """
    context.flags |= Flags.output_corrupt  # else what is flagged is withheld: uncounted, and endless without keyframes
    context.copy_opaque = True
    if context.name == "mjpeg":
        context.options = {**context.options, "err_detect": "explode"}


class _State(Enum):
    JOINING = auto()
    """Nothing has been decoded yet: the decoder flags all pictures up to the first that is whole."""
    CLEAN = auto()
    WAITING = auto()
    """Damaged: pictures inherit it up to the next keyframe."""
    RESIGNED = auto()
    """No keyframe came: pictures that may have inherited damage pass."""


class DamageFilter:
    """Tells the pictures of one connection that are whole; every packet and every picture goes through it.

    Args:
        context: the decoder, after `prepare`.
        patience_s: longest wait for a keyframe, in seconds of `clock`.
        clock: monotonic seconds.
    """

    def __init__(
        self, context: Any, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._order = FrameNumbers(context.extradata or b"") if context.name.startswith("h264") else None
        self._patience_s = patience_s
        self._clock = clock
        self._state = _State.JOINING
        self._since = clock()
        self._fed = 0
        self._whole_from = 0
        self._sweeps = 0
        self._takes_flagged = False

    def feed(self, packet: Any, lost: bool = False) -> None:
        """Look at a packet before it is decoded.

        Args:
            packet: an `av.Packet`; its `opaque` is taken.
            lost: the transport told of a loss while it was read, as `tells_of_loss` finds in FFmpeg's log.
        """
        number = self._fed
        self._fed += 1
        packet.opaque = [number]  # an object of its own: PyAV tells them apart by address
        if lost or packet.is_corrupt:
            self._damage(number + 2)  # this packet or the next: readers notice when the one before is complete
        if self._order is not None and self._order.skips(bytes(packet)):
            self._damage(number)

    def error(self) -> None:
        """Note that the decoder raised on the last packet."""
        self._damage(self._fed, joining=True)

    def passes(self, picture: Any) -> bool:
        """Return whether a decoded picture (`av.VideoFrame`) is fit to be used; it counts as `corrupt` otherwise."""
        number = picture.opaque[0] if picture.opaque else self._fed - 1
        if picture.is_corrupt:
            self._damage(number + 1, joining=not picture.key_frame)
        if self._is_whole(picture, number):
            self._state = _State.CLEAN
        elif self._state in (_State.JOINING, _State.WAITING) and self._clock() - self._since >= self._patience_s:
            self._state = _State.RESIGNED
            self._takes_flagged = picture.is_corrupt
        if not picture.is_corrupt:
            self._takes_flagged = False
            return self._state in (_State.CLEAN, _State.RESIGNED)
        return self._state is _State.RESIGNED and self._takes_flagged

    def _damage(self, whole_from: int, joining: bool = False) -> None:
        """Wait for a keyframe.

        Args:
            whole_from: number of the first packet that can bring one.
            joining: it is what happens to any decoder that has not seen a keyframe.
        """
        self._whole_from = max(self._whole_from, whole_from)
        self._sweeps = 0
        if self._state is _State.CLEAN:
            self._since = self._clock()
        if self._state is _State.CLEAN or (self._state is _State.JOINING and not joining):
            self._state = _State.WAITING

    def _is_whole(self, picture: Any, number: int) -> bool:
        """Whether a picture owes nothing to damaged ones.

        With intra refresh (H.264) a recovery point begins a sweep over the picture; behind the second one all is new.
        """
        if picture.is_corrupt or number < self._whole_from:
            return False
        if picture.key_frame and picture.pict_type != PictureType.I:
            self._sweeps += 1
        intra = picture.key_frame and picture.pict_type == PictureType.I
        return bool(intra) or self._sweeps >= 2 or self._state is _State.JOINING


def tells_of_loss(message: str) -> bool:
    """Whether a line of FFmpeg's log tells that RTP packets were lost."""
    return message.startswith("RTP: missed")


class FrameNumbers:
    """Notices reference pictures that are missing from an H.264 stream (ITU-T H.264, 7.4.3, frame_num).

    FFmpeg fills in for them and flags nothing.

    Args:
        extradata: of the decoder; it tells how NAL units are separated, and may hold the parameter set.
    """

    def __init__(self, extradata: bytes) -> None:
        self._length_size = (extradata[4] & 3) + 1 if extradata[:1] == b"\x01" and len(extradata) > 6 else 0
        self._bits: int | None = None
        self._separate_planes = self._gaps_allowed = False
        self._last: int | None = None
        if self._length_size:
            size = int.from_bytes(extradata[6:8], "big")
            self._learn(extradata[8 : 8 + size])
        else:
            self.skips(extradata)

    def skips(self, unit: bytes) -> bool:
        """Return whether reference pictures are missing between the last access unit and this one."""
        for nal in self._nal_units(unit):
            kind = nal[0] & 31
            if kind == 7:
                self._learn(nal)
            elif kind in (1, 5):
                return self._is_gap(nal)
        return False

    def _is_gap(self, nal: bytes) -> bool:
        if self._bits is None:
            return False
        try:
            number = self._frame_num(nal, self._bits)
        except EOFError:
            return False
        last, is_idr, is_reference = self._last, nal[0] & 31 == 5, nal[0] & 0x60
        if is_reference:
            self._last = number
        if last is None or is_idr or self._gaps_allowed:
            return False
        return number not in (last, (last + 1) % (1 << self._bits))

    def _frame_num(self, nal: bytes, size: int) -> int:
        bits = _Bits(nal[1:])
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.golomb()
        bits.take(2 if self._separate_planes else 0)
        return bits.take(size)

    def _learn(self, nal: bytes) -> None:
        """Read a sequence parameter set (7.3.2.1.1) as far as it says how long frame_num is and whether it may jump."""
        bits = _Bits(nal[1:])
        try:
            profile = bits.take(24) >> 16
            bits.golomb()
            self._separate_planes = profile in HIGH_PROFILES and _skip_format(bits)
            self._bits = bits.golomb() + 4
            _skip_order_counts(bits)
            bits.golomb()  # max_num_ref_frames
            self._gaps_allowed = bool(bits.take(1))
        except EOFError:
            self._bits = None

    def _nal_units(self, unit: bytes) -> Iterator[bytes]:
        """Yield the beginning of each NAL unit."""
        if self._length_size:
            at = 0
            while at + self._length_size < len(unit):
                size = int.from_bytes(unit[at : at + self._length_size], "big")
                at += self._length_size
                yield unit[at : at + min(size, HEAD)]
                at += size
            return
        at = unit.find(b"\0\0\1")
        while at >= 0 and at + 3 < len(unit):
            yield unit[at + 3 : at + 3 + HEAD]
            at = unit.find(b"\0\0\1", at + 3)


HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


def _skip_format(bits: _Bits) -> bool:
    """Pass over what the high profiles insert into a parameter set; return separate_colour_plane_flag."""
    chroma = bits.golomb()
    separate = chroma == 3 and bool(bits.take(1))
    bits.golomb()
    bits.golomb()
    bits.take(1)
    if bits.take(1):  # scaling matrices
        for index in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return separate


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _skip_order_counts(bits: _Bits) -> None:
    kind = bits.golomb()  # pic_order_cnt_type
    if kind == 0:
        bits.golomb()
    elif kind == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()


class _Bits:
    """Reads bits of a NAL unit.

    Raises:
        EOFError: there are no more.
    """

    def __init__(self, data: bytes) -> None:
        data = data[:HEAD].replace(b"\0\0\3", b"\0\0")  # emulation prevention
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """Exp-Golomb code, unsigned (9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)
