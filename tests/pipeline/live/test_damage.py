from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# isort: split
import av

from pipeline.capture.live.damage import LONGEST_S, PATIENCE_S, DamageFilter, prepare, tells_of_loss
from pipeline.capture.live.frame_numbers import FrameNumbers
from tests.pipeline.live.lossy import (
    Luma,
    Unit,
    byte_stream,
    clean,
    damaged,
    decoder,
    description,
    encode,
    is_slice,
    lossy_network,
    lost_slice,
    nal_units,
    packet_of,
    passed,
    receive,
    send,
    transport_stream,
    truncated,
    watch,
    with_hole,
)

GOP = 30
AT = 40
"""The picture that is damaged; the next keyframe is 60."""

SLOW_FPS = 5
"""At this rate of pictures, long waits are few pictures."""
PATIENCE = round(PATIENCE_S * SLOW_FPS)
LONGEST = round(LONGEST_S * SLOW_FPS)

Damage = Callable[[str, Unit], "Unit | None"]


def lost(codec: str, unit: Unit) -> None:
    return None


@cache
def stream(codec: str, count: int = 100, **how: Any) -> tuple[list[Unit], dict[int, Luma]]:
    units = encode(codec, count, **how)
    return units, clean(codec, units)


def hurt(codec: str, units: Sequence[Unit], damage: Damage, *numbers: int) -> list[Unit | None]:
    """Damage some of the pictures."""
    return [damage(codec, unit) if unit.number in numbers else unit for unit in units]


def parameter_sets(codec: str, units: Sequence[Unit]) -> bytes:
    nals = nal_units(units[0].data)
    kinds = (7, 8) if codec == "h264" else (32, 33, 34)
    return byte_stream([nal for nal in nals if (nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63) in kinds])


CLEAN = [
    ("h264", {}),
    ("h264", {"slices": 4}),
    ("h264", {"intra_refresh": True}),
    ("h264", {"more": ":bframes=3:b-pyramid=2:ref=4:open-gop=1"}),
    ("h264", {"more": ":interlaced=1"}),
    ("h264", {"more": ":cqm=jvt"}),
    ("hevc", {}),
    ("hevc", {"more": ":bframes=3:rc-lookahead=10:open-gop=1"}),
    ("mjpeg", {}),
]


@pytest.mark.parametrize(("codec", "how"), CLEAN, ids=str)
def test_of_a_stream_without_loss_every_picture_passes(codec: str, how: dict[str, Any]) -> None:
    units = encode(codec, 70, **how)
    seen = watch(codec, units)
    assert len(seen) >= 66  # the decoder holds the last ones back where they may come in another order
    assert passed(seen) == [each.number for each in seen]


@pytest.mark.parametrize("slices", [1, 4])
@pytest.mark.parametrize("damage", [lost, lost_slice, truncated, with_hole])
def test_h264_is_dropped_from_the_damage_up_to_the_next_keyframe(damage: Damage, slices: int) -> None:
    units, whole = stream("h264", slices=slices)
    seen = watch("h264", hurt("h264", units, damage, AT))
    assert damaged(seen, whole)[-1] == 2 * GOP - 1  # the smear does last that long
    assert passed(seen) == [*range(AT), *range(2 * GOP, 100)]


def test_what_the_decoder_refuses_is_damage() -> None:
    units, _ = stream("hevc")
    context, seen = decoder("hevc"), []
    prepare(context)
    damage = DamageFilter(context)
    for unit in units:
        packet = packet_of(unit)
        damage.feed(packet)
        frames = context.decode(packet)
        if unit.number == AT:
            damage.error()
        seen += [frame.pts for frame in frames if damage.passes(frame)]
    assert seen == [*range(AT), *range(2 * GOP, 100)]


def test_h265_is_dropped_after_a_lost_picture_up_to_the_next_keyframe() -> None:
    units, whole = stream("hevc")
    seen = watch("hevc", hurt("hevc", units, lost, AT))
    assert damaged(seen, whole)[-1] == 2 * GOP - 1
    assert passed(seen) == [*range(AT), *range(2 * GOP, 100)]


@pytest.mark.parametrize("damage", [truncated, with_hole])
@pytest.mark.parametrize("told_with", [AT - 1, AT])
def test_h265_is_dropped_where_the_transport_told_of_a_loss(damage: Damage, told_with: int) -> None:
    units, whole = stream("hevc")
    seen = watch("hevc", hurt("hevc", units, damage, AT), told=[told_with])
    assert not any(each.is_corrupt for each in seen)  # the decoder itself notices nothing
    assert damaged(seen, whole)[0] == AT
    assert passed(seen) == [*range(told_with), *range(2 * GOP, 100)]


@pytest.mark.parametrize("told_with", [2 * GOP - 1, 2 * GOP])
def test_a_keyframe_that_the_loss_may_have_hit_ends_no_wait(told_with: int) -> None:
    units, whole = stream("hevc")
    seen = watch("hevc", hurt("hevc", units, with_hole, 2 * GOP), told=[told_with])
    assert damaged(seen, whole)[0] == 2 * GOP
    assert passed(seen) == [*range(told_with), *range(3 * GOP, 100)]


@pytest.mark.parametrize("damage", [truncated, with_hole])
def test_of_mjpeg_only_the_damaged_picture_is_dropped(damage: Damage) -> None:
    units, _ = stream("mjpeg")
    seen = watch("mjpeg", hurt("mjpeg", units, damage, AT))
    assert passed(seen) == [each for each in range(100) if each != AT]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("described", [True, False])
def test_nothing_passes_before_the_first_keyframe(codec: str, described: bool) -> None:
    units, _ = stream(codec)
    seen = watch(codec, units[AT:], extradata=parameter_sets(codec, units) if described else b"")
    assert passed(seen) == list(range(2 * GOP, 100))


@pytest.mark.parametrize("described", [True, False])
def test_a_stream_with_intra_refresh_is_joined_when_the_picture_is_complete(described: bool) -> None:
    units, whole = stream("h264", intra_refresh=True)
    seen = watch("h264", units[AT:], extradata=parameter_sets("h264", units) if described else b"")
    assert 2 * GOP < passed(seen)[0] < 3 * GOP  # the sweep that began at 60 is over
    assert passed(seen) == list(range(passed(seen)[0], 100))
    assert not set(damaged(seen, whole)) & set(passed(seen))


@pytest.mark.parametrize("damage", [lost, with_hole])
def test_intra_refresh_heals_damage_by_a_whole_sweep(damage: Damage) -> None:
    units, whole = stream("h264", intra_refresh=True)
    seen = watch("h264", hurt("h264", units, damage, AT))
    assert passed(seen) == [*range(AT), *range(3 * GOP, 100)]
    assert not set(damaged(seen, whole)) & set(passed(seen))


def test_without_keyframes_pictures_pass_again_after_some_seconds_if_they_are_not_damaged_themselves() -> None:
    units, _ = stream("h264", gop=1000)
    again, fresh = AT + PATIENCE, AT + PATIENCE + 15
    seen = watch("h264", hurt("h264", units, with_hole, AT, fresh), fps=SLOW_FPS)
    assert passed(seen) == [*range(AT), *range(again, fresh), *range(fresh + 1, 100)]


def test_pictures_that_stay_flagged_pass_again_after_some_seconds() -> None:
    units, _ = stream("hevc", gop=1000)
    seen = watch("hevc", hurt("hevc", units, lost, AT), fps=SLOW_FPS)
    assert all(each.is_corrupt for each in seen if each.number > AT)  # the flag is inherited without end
    assert passed(seen) == [*range(AT), *range(AT + 1 + PATIENCE, 100)]


def test_the_wait_goes_on_while_keyframes_come_though_each_is_damaged() -> None:
    units, _ = stream("h264", gop=15)
    seen = watch("h264", hurt("h264", units, with_hole, AT, 45, 60, 75), fps=SLOW_FPS)
    assert passed(seen) == [*range(AT), *range(90, 100)]


def test_the_wait_ends_even_if_no_keyframe_ever_comes_whole() -> None:
    units, _ = stream("h264", count=160, gop=15)
    seen = watch("h264", hurt("h264", units, with_hole, AT, *range(45, 160, 15)), fps=SLOW_FPS)
    again = AT + LONGEST
    assert passed(seen) == [*range(AT), *(each for each in range(again, 160) if each % 15)]


# ------------------------------------------------------------------ real transports


@pytest.fixture
def ffmpeg_log() -> Iterator[None]:
    """FFmpeg's warnings, those that repeat themselves too."""
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    yield
    av.logging.set_skip_repeated(True)
    av.logging.set_level(None)


@pytest.mark.usefixtures("ffmpeg_log")
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_no_damaged_picture_passes_when_a_network_loses_rtp_packets(codec: str, tmp_path: Path) -> None:
    units, whole = stream(codec, count=150)
    with lossy_network(loss=0.02, first=40, seed=1) as network:
        path = description(network, codec, tmp_path)
        sender = threading.Timer(0.3, send, (network, codec, units, 75))
        sender.start()
        seen = receive(str(path), "sdp")
        sender.join()
    assert network.lost
    assert damaged(seen, whole)
    assert not set(damaged(seen, whole)) & set(passed(seen))
    assert len(passed(seen)) >= 35


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_no_damaged_picture_passes_when_a_transport_stream_loses_packets(codec: str) -> None:
    units, whole = stream(codec)
    data, rng = transport_stream(codec, units), random.Random(5)
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    kept = [each for place, each in enumerate(packets) if place < len(packets) / 3 or rng.random() > 0.01]
    seen = receive(io.BytesIO(b"".join(kept)), "mpegts")
    assert damaged(seen, whole)
    assert not set(damaged(seen, whole)) & set(passed(seen))
    assert len(passed(seen)) >= 25


def test_only_the_line_about_missed_packets_tells_of_a_loss() -> None:
    assert tells_of_loss("RTP: missed 3 packets\n")
    assert not tells_of_loss("max delay reached. need to consume packet\n")


# ------------------------------------------------------------------ frame_num


def golomb(value: int) -> str:
    """Exp-Golomb code as text of 0 and 1 (ITU-T H.264, 9.1)."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def packed(head: int, bits: str) -> bytes:
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return byte_stream([bytes([head]) + int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\0\0", b"\0\0\3")])


BASELINE = f"{66:08b}" + "0" * 8 + f"{30:08b}" + golomb(0)
HIGH_444 = f"{244:08b}" + "0" * 8 + f"{30:08b}" + golomb(0) + golomb(3) + "1" + golomb(0) * 2 + "0"
SCALED = "1" + "1" + golomb(1) * 16 + "1" + golomb(16) + "0" * 10  # a whole list, one that ends at once, ten absent
SCALED_444 = HIGH_444 + SCALED
ORDER_0, ORDER_1, ORDER_2 = golomb(0) * 2, golomb(1) + "0" + golomb(0) * 2 + golomb(2) + golomb(7) * 2, golomb(2)


def parameter_set(start: str = BASELINE, order: str = ORDER_2, gaps: str = "0") -> bytes:
    """A sequence parameter set with frame_num of 4 bits."""
    return packed(0x67, start + golomb(0) + order + golomb(1) + gaps)


def picture(number: int, head: int = 0x61, planes: str = "", first: int = 0) -> bytes:
    return packed(head, golomb(first) + golomb(5) + golomb(0) + planes + f"{number:04b}" + "0" * 40)


IDR, UNREFERENCED = 0x65, 0x01
ZEROS = 2**22 - 1
"""Its code begins with so many zeros that a byte against false start codes is put between them."""


@pytest.mark.parametrize(
    ("pictures", "skips"),
    [
        pytest.param([picture(3), picture(4), picture(5)], [], id="in order"),
        pytest.param([picture(3), picture(5), picture(6)], [1], id="one is missing"),
        pytest.param([picture(14), picture(15), picture(0)], [], id="wraps around"),
        pytest.param([picture(14), picture(0)], [1], id="missing at the wrap"),
        pytest.param([picture(7), picture(0, IDR), picture(1)], [], id="keyframe"),
        pytest.param([picture(2), picture(3, UNREFERENCED), picture(3)], [], id="one that nobody refers to"),
        pytest.param([picture(2), picture(3, UNREFERENCED), picture(4)], [2], id="missing behind such a one"),
        pytest.param([picture(2), picture(3), picture(3)], [], id="two fields"),
        pytest.param([picture(each, first=ZEROS) for each in (3, 4, 6)], [2], id="emulation prevention"),
        pytest.param([picture(9)], [], id="joined late"),
    ],
)
def test_missing_reference_pictures_show_in_their_numbers(pictures: list[bytes], skips: list[int]) -> None:
    numbers = FrameNumbers(parameter_set())
    assert [place for place, each in enumerate(pictures) if numbers.skips(each)] == skips


@pytest.mark.parametrize("order", [ORDER_0, ORDER_1, ORDER_2])
@pytest.mark.parametrize(("start", "planes"), [(BASELINE, ""), (HIGH_444 + "0", "01"), (SCALED_444, "01")])
def test_parameter_sets_of_all_kinds_are_understood(start: str, planes: str, order: str) -> None:
    for gaps in "01":
        numbers = FrameNumbers(b"")
        assert not numbers.skips(parameter_set(start, order, gaps) + picture(3, planes=planes))
        assert not numbers.skips(picture(4, planes=planes))
        assert numbers.skips(picture(7, planes=planes)) == (gaps == "0")


def test_numbers_are_read_from_units_with_lengths_instead_of_start_codes() -> None:
    units, _ = stream("h264")
    sets = nal_units(parameter_sets("h264", units))
    sps, pps = ((len(each).to_bytes(2, "big") + each) for each in sets)
    numbers = FrameNumbers(b"\1" + sets[0][1:4] + b"\xff\xe1" + sps + b"\1" + pps)
    missing = [
        unit.number
        for unit in units
        if unit.number != AT
        and numbers.skips(
            b"".join(len(nal).to_bytes(4, "big") + nal for nal in nal_units(unit.data) if is_slice("h264", nal))
        )
    ]
    assert missing == [AT + 1]


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.binary(max_size=100)))
def test_garbage_does_no_harm(extradata: bytes, units: list[bytes]) -> None:
    numbers = FrameNumbers(extradata)
    for unit in units:
        numbers.skips(b"\0\0\1\x67" + unit)
        numbers.skips(b"\0\0\1\x61" + unit)
        numbers.skips(unit)
