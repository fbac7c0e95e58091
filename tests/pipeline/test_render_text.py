"""Text: names in the letters that they are written in, in the right order, from fonts that are fonts."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.config.result_settings import RenderSettings
from pipeline.errors import ConfigError
from pipeline.render.renderer import Renderer
from pipeline.render.text import LONGEST, Typeface, one_line
from pipeline.render.writing import in_drawing_order

SIZE = 24
NAMES = [
    "José", "Łukasz", "Ольга", "Ελένη", "王小明", "さくら", "サクラ", "김민준", "שלום", "محمد",
    "Nguyễn", "Çelik", "Zoë Ångström",
]  # fmt: skip


@pytest.fixture(scope="module")
def typeface() -> Typeface:
    return Typeface()


def ink(coverage: Image) -> Image:
    """Return what is covered, without the margins."""
    rows, columns = np.nonzero(coverage > 60)
    return coverage[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def alike(first: Image, second: Image) -> bool:
    return first.shape == second.shape and bool(np.abs(first.astype(int) - second).max() < 40)


@pytest.mark.parametrize("name", NAMES)
def test_every_letter_of_a_name_is_drawn_and_no_question_mark(typeface: Typeface, name: str) -> None:
    question, missing = (ink(typeface.patch(each, SIZE)) for each in ("?", "𒀀"))
    assert alike(question, missing)  # which is what OpenCV draws for a letter that no font has
    for letter in name.replace(" ", ""):
        assert typeface.has(letter)
        assert not alike(ink(typeface.patch(letter, SIZE)), question)


def test_different_letters_are_different_pictures(typeface: Typeface) -> None:
    for first, second in (("王", "小"), ("さ", "く"), ("О", "л"), ("é", "e"), ("Ł", "L"), ("ع", "ل")):
        assert not alike(ink(typeface.patch(first, SIZE)), ink(typeface.patch(second, SIZE)))


def test_what_no_font_has_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    typeface = Typeface()
    assert not typeface.has("𒀀")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            typeface.patch(f"a𒀀b {number}", SIZE)
        typeface.patch("José 王小明", SIZE)
    assert [record.getMessage() for record in caplog.records] == ["no font has 𒀀: name one that has with render.font"]


def test_an_accent_of_its_own_is_drawn_on_its_letter(typeface: Typeface) -> None:
    assert np.array_equal(typeface.patch("Jose\u0301", SIZE), typeface.patch("José", SIZE))


@pytest.mark.parametrize(
    ("text", "line"), [("a\tb", "a b"), ("a\nb", "a b"), ("a\0b\u200b", "ab"), ("", ""), ("a" * 99, "a" * 47 + "…")]
)
def test_a_name_is_one_line_of_letters(text: str, line: str) -> None:
    assert one_line(text) == line
    assert len(line) <= LONGEST


@pytest.mark.parametrize("size", [4, 10, 13, 21, 40, 200])
@pytest.mark.parametrize("text", ["", "person 12 0.87", "Ảjgq|", "محمد علي", "W" * 48])
def test_all_of_a_text_is_inside_its_patch_whose_sides_are_even(typeface: Typeface, text: str, size: int) -> None:
    coverage = typeface.patch(text, size)
    assert coverage.shape[0] % 2 == coverage.shape[1] % 2 == 0
    assert coverage.shape[0] >= size
    if text:
        columns = np.nonzero(coverage.any(axis=0))[0]
        assert columns.min() > 0
        assert columns.max() < coverage.shape[1] - 1
        assert not coverage[-1].any()
    with pytest.raises(ValueError, match="read-only"):
        coverage[0, 0] = 1


def test_a_long_text_is_one_line(typeface: Typeface) -> None:
    assert typeface.patch("W" * LONGEST, SIZE).shape[0] == typeface.patch("W", SIZE).shape[0]


def test_the_pixels_of_a_text_are_kept_but_not_of_every_text(typeface: Typeface) -> None:
    assert typeface.patch("again", SIZE) is typeface.patch("again", SIZE)
    for number in range(2000):
        typeface.patch(str(number), 6)
    assert typeface.patch.cache_info().currsize <= 512


# ---- the order of letters


def everything(_: str) -> bool:
    return True


def no_forms(character: str) -> bool:
    return not 0xFB50 <= ord(character) < 0xFF00


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("person 12 0.87", "person 12 0.87"),
        ("Ольга 0.5", "Ольга 0.5"),
        ("שלום", "םולש"),
        ("שלום כהן 0.43", "ןהכ םולש 0.43"),
        ("שלום 12 כהן", "ןהכ 12 םולש"),
        ("Dan שלום Cohen", "Dan םולש Cohen"),
        ("שלום (א) ב", "ב (א) םולש"),
    ],
)
def test_right_to_left_letters_are_turned_round_and_numbers_are_not(text: str, drawn: str) -> None:
    assert in_drawing_order(text, no_forms) == drawn


def test_arabic_letters_join_where_the_font_has_their_shapes() -> None:
    # seen meem (initial, final); reh joins only what is before it
    assert in_drawing_order("سم", everything) == "\ufee2\ufeb3"
    assert in_drawing_order("رم", everything) == "\ufee1\ufead"
    assert in_drawing_order("ممم", everything) == "\ufee2\ufee4\ufee3"
    assert in_drawing_order("سم", no_forms) == "مس"


# ---- fonts of one's own


def test_a_font_of_ones_own_is_used_and_what_it_lacks_is_drawn_all_the_same(typeface: Typeface, a_font: Path) -> None:
    own = Typeface(a_font)
    assert not alike(ink(own.patch("person", SIZE)), ink(typeface.patch("person", SIZE)))
    assert own.has("王")


@pytest.fixture(scope="session")
def a_font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small TrueType font: squares for a to z, made here."""
    path = tmp_path_factory.mktemp("font") / "squares.ttf"
    path.write_bytes(made_font())
    return path


def made_font() -> bytes:
    """Return a font whose letters are all one square, by the OpenType specification."""
    square = struct.pack(">5h", 1, 100, 0, 600, 700) + struct.pack(">H", 3) + struct.pack(">H", 0) + b"\1\1\1\1"
    square += struct.pack(">4h", 100, 500, 0, -500) + struct.pack(">4h", 0, 0, 700, 0)
    square += b"\0" * (-len(square) % 4)
    ends = (0xFFFF, ord("z"))
    pairs = struct.pack(">2H", ends[1], ends[0]) + b"\0\0" + struct.pack(">2H", ord("a"), 0xFFFF)
    mapping = struct.pack(">7H", 4, 16 + 8 * 2, 0, 4, 4, 1, 0) + pairs
    mapping += struct.pack(">2h", 1 - ord("a"), 1) + struct.pack(">2H", 0, 0)
    count = 27
    tables = {
        b"cmap": struct.pack(">2H2HI", 0, 1, 3, 1, 12) + mapping,
        b"glyf": square * count,
        b"head": struct.pack(
            ">4IHH2q4h2H3h", 65536, 65536, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, 0, 700, 700, 0, 8, 2, 1, 0
        ),
        b"hhea": struct.pack(">I3h13H", 65536, 800, -200, 0, 700, *([0] * 11), count),
        b"hmtx": struct.pack(">2H", 700, 100) * count,
        b"loca": struct.pack(f">{count + 1}I", *range(0, len(square) * (count + 1), len(square))),
        b"maxp": struct.pack(">IH", 65536, count) + b"\0" * 26,
    }
    start, directory, body = 12 + 16 * len(tables), b"", b""
    for tag, data in tables.items():
        directory += tag + struct.pack(">3I", 0, start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    return b"\0\1\0\0" + struct.pack(">4H", len(tables), 64, 2, 48) + directory + body


def test_the_letters_of_the_font_are_what_is_drawn(a_font: Path) -> None:
    square = ink(Typeface(a_font).patch("a", 100))
    assert square.shape[0] > 30
    assert (square > 200).mean() > 0.9


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no TrueType or OpenType font"),
        (b"no font at all, but a text that is long enough for a header to be read from it", "is no TrueType"),
        (b"\0\1\0\0" + bytes(range(200)), "is no TrueType"),
        (b"ttcf" + b"\xff" * 100, "is no TrueType"),
    ],
)
def test_a_file_that_is_no_font_is_refused_before_opencv_sees_it(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "font.ttf"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        Renderer(RenderSettings(font=path))


def test_random_bytes_are_no_font_whatever_they_begin_with(tmp_path: Path) -> None:
    random, path = np.random.default_rng(0), tmp_path / "font.ttf"
    for start in (b"", b"\0\1\0\0", b"OTTO", b"true", b"ttcf\0\1\0\0\0\0\0\1\0\0\0\x10"):
        for _ in range(20):
            path.write_bytes(start + random.bytes(400))
            with pytest.raises(ConfigError):
                Typeface(path)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_a_font_that_is_cut_off_is_refused(tmp_path: Path, part: float) -> None:
    whole, path = made_font(), tmp_path / "font.ttf"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ConfigError, match=r"cut off|is no TrueType"):
        Typeface(path)


def test_a_font_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"font\.ttf cannot be read: No such file"):
        Renderer(RenderSettings(font=tmp_path / "font.ttf"))


def test_the_fonts_of_opencv_are_there() -> None:
    assert cv2.FontFace("sans").getName() == "sans"
