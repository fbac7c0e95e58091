"""FrameNumbers: notices that pictures are missing from an H.264 stream.

FFmpeg's decoder makes up for a reference picture that never came and flags nothing. But each picture carries a counter,
frame_num (ITU-T H.264, 7.4.3), which this reads: 15 to 60 microseconds a picture.
"""

from __future__ import annotations

from collections.abc import Iterator

HEAD = 512
"""Bytes of a NAL unit that are looked at: slice headers and parameter sets are shorter."""


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
