"""Effects: what is foreground stays as it is, what is background goes wholly, and nobody's colours are left in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.arrays import Image
from pipeline.config.look_settings import SegmentSettings
from pipeline.frame import Frame
from pipeline.picture import Matrix, Picture, Planes, bgr_to_planes
from pipeline.render.blurred import blurred
from pipeline.render.canvas import bgr_to_yuv
from pipeline.render.compose import laid_over, pixels_of
from pipeline.render.effect import NOT_AT_ALL, WHOLLY, Effect, decided
from pipeline.render.theme import THEMES
from pipeline.segmentation import SegmentationMap
from tests.pipeline.videos import noise_planes

WIDTH, HEIGHT = 96, 64
PERSON = ("background", "person")
STREET = ("background", "road", "car", "tree")
HIDING = ("blur-background", "replace-background", "cut-out")
GREEN = (0x40, 0xB1, 0x00)
BLACK = (0, 0, 0)
FORMS = ("planes", "bgr")


def noise(form: str, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Picture:
    if form == "planes":
        return Picture(planes=noise_planes(width, height, seed))
    return Picture(bgr=np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8))


def disc(width: int = WIDTH, height: int = HEIGHT, soft: float = 2.0) -> Image:
    """Somebody in the middle, with soft edges."""
    alpha = np.zeros((height, width), np.uint8)
    cv2.circle(alpha, (width // 2, height // 2), min(width, height) // 3, 255, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), soft), np.uint8) if soft else alpha


def map_of(alpha: Image, class_ids: Image | None = None, labels: tuple[str, ...] = PERSON) -> SegmentationMap:
    return SegmentationMap((alpha > 127).astype(np.uint8) if class_ids is None else class_ids, alpha, labels)


def frame_of(picture: Picture, known: SegmentationMap | None, **more: Any) -> Frame:
    return Frame(more.pop("source", "cam"), more.pop("index", 0), 0.0, 0.0, picture, segmentation=known, **more)


def effect_of(effect: str, **settings: Any) -> Effect:
    return Effect(SegmentSettings.model_validate({"effect": effect, **settings}))


def shown(effect: Effect, picture: Picture, known: SegmentationMap | None, **more: Any) -> Picture:
    frame = frame_of(picture, known, **more)
    effect.process(frame)
    assert frame.picture is picture
    assert frame.rendered is not None
    return frame.rendered


def pixels(picture: Picture, alpha: Image) -> list[tuple[Image, Image, Image]]:
    """Each plane of a picture, or all of it, with where it is wholly foreground, and wholly background."""
    if picture.planes is None:
        return [(picture.bgr, alpha == 255, alpha == 0)]
    four = alpha.reshape(alpha.shape[0] // 2, 2, alpha.shape[1] // 2, 2)
    most, least = four.max(axis=(1, 3)), four.min(axis=(1, 3))
    planes = picture.planes
    return [
        (planes.y, alpha == 255, alpha == 0),
        (planes.u, least == 255, most == 0),
        (planes.v, least == 255, most == 0),
    ]


# --- what is shown of whom ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("effect", HIDING)
@hypothesis_settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    width=st.integers(1, 40).map(lambda side: 2 * side),
    height=st.integers(1, 40).map(lambda side: 2 * side),
    odd=st.tuples(st.booleans(), st.booleans()),
)
def test_foreground_keeps_its_values_and_background_has_only_those_of_the_background(
    effect: str, form: str, seed: int, width: int, height: int, odd: tuple[bool, bool]
) -> None:
    if form == "bgr":
        width, height = width - odd[0], height - odd[1]
    random = np.random.default_rng(seed)
    coarse = random.choice(np.array([0, 0, 255, 255, 1, 100, 254], np.uint8), (height // 4 + 1, width // 4 + 1))
    alpha = np.ascontiguousarray(np.kron(coarse, np.ones((4, 4), np.uint8))[:height, :width])
    picture = noise(form, width, height, seed)
    result = shown(effect_of(effect, background="#00b140"), picture, map_of(alpha))
    assert (result.width, result.height) == (width, height)
    if effect == "blur-background":
        behind = blurred(picture, decided(alpha), 0.04 * min(width, height))
    else:
        behind = plain_like(picture, BLACK if effect == "cut-out" else GREEN)
    everything = zip(pixels(result, alpha), pixels(picture, alpha), pixels(behind, alpha), strict=True)
    for (after, inside, outside), (before, *_), (background, *_) in everything:
        assert np.array_equal(after[inside], before[inside])
        assert np.array_equal(after[outside], background[outside])


@pytest.mark.parametrize("effect", HIDING)
def test_a_network_that_is_not_quite_sure_leaves_no_trace_of_what_is_hidden(effect: str) -> None:
    picture, stage = noise("planes"), effect_of(effect)
    nearly, wholly = (map_of(np.full((HEIGHT, WIDTH), level, np.uint8)) for level in (NOT_AT_ALL, 0))
    assert np.array_equal(pixels_of(shown(stage, picture, nearly)), pixels_of(shown(stage, picture, wholly)))
    surely = map_of(np.full((HEIGHT, WIDTH), WHOLLY, np.uint8))
    assert np.array_equal(pixels_of(shown(stage, picture, surely)), pixels_of(picture))


def plain_like(picture: Picture, colour: tuple[int, int, int]) -> Picture:
    if picture.planes is None:
        return Picture(bgr=np.full_like(picture.bgr, colour))
    levels = bgr_to_yuv(colour, picture.planes.matrix, picture.planes.full_range)
    sizes = [picture.width * picture.height // part for part in (1, 4, 4)]
    data = np.concatenate([np.full(size, level, np.uint8) for size, level in zip(sizes, levels, strict=True)])
    return Picture(planes=Planes(data.reshape(-1, picture.width), picture.planes.matrix, picture.planes.full_range))


@pytest.mark.parametrize("above", range(0, 256, 5))
def test_every_weight_gives_the_mean_that_it_stands_for(above: int) -> None:
    alpha = np.arange(256, dtype=np.uint8)[None]
    first, second = (Picture(bgr=np.full((1, 256, 3), level, np.uint8)) for level in (above, 255 - above))
    mean = (above * alpha.astype(float) + (255 - above) * (255 - alpha.astype(float))) / 255
    assert np.abs(laid_over(first, second, alpha).bgr[..., 0] - mean).max() <= 1


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("effect", ["overlay", *HIDING, "streets"])
def test_planes_and_bgr_give_the_same(effect: str, matrix: Matrix, full_range: bool) -> None:
    """On pictures and maps of 2 x 2 blocks, where chroma at half the size loses nothing."""
    random = np.random.default_rng(1)
    blocks = random.integers(70, 180, (HEIGHT // 2, WIDTH // 2, 3)).astype(np.uint8)
    planes = Picture(
        planes=Planes(bgr_to_planes(np.kron(blocks, np.ones((2, 2, 1), np.uint8))).data, matrix, full_range)
    )
    bgr = Picture(bgr=planes.bgr)
    alpha = np.kron(disc(WIDTH // 2, HEIGHT // 2), np.ones((2, 2), np.uint8))
    class_ids = np.kron(random.integers(0, 4, (HEIGHT // 8, WIDTH // 8)), np.ones((8, 8))).astype(np.uint8)
    known = map_of(alpha, class_ids, STREET) if effect == "streets" else map_of(alpha)
    stage = effect_of("overlay" if effect == "streets" else effect)
    of_planes, of_bgr = (shown(stage, each, known) for each in (planes, bgr))
    assert of_planes.planes is not None
    assert of_bgr.planes is None
    difference = np.abs(of_planes.bgr.astype(int) - of_bgr.bgr)
    # a level of chroma is up to 2.1 of blue; what is blurred changes within the four pixels that share one
    assert difference.max() <= (10 if effect == "blur-background" else 6)
    assert difference.mean() < 1.2


# --- nothing of the person is in the blurred background -------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_no_colour_of_the_person_bleeds_into_the_blur(form: str) -> None:
    alpha = disc(320, 240, soft=0)
    bgr = np.full((240, 320, 3), 128, np.uint8)
    bgr[alpha == 255] = (0, 0, 255)
    picture = Picture(bgr=bgr) if form == "bgr" else Picture(planes=bgr_to_planes(bgr))
    result = shown(effect_of("blur-background", blur=0.05), picture, map_of(alpha)).bgr
    outside = cv2.dilate(alpha, np.ones((3, 3), np.uint8)) == 0  # but for the pixels that share chroma
    assert np.abs(result[outside].astype(int) - 128).max() <= 3
    plain_blur = cv2.GaussianBlur(bgr, (0, 0), 12)
    assert np.abs(plain_blur[outside].astype(int) - 128).max() > 50  # which is the halo


def test_a_mask_that_ends_inside_the_person_leaves_no_halo_either() -> None:
    bgr, alpha = np.full((240, 320, 3), 128, np.uint8), np.zeros((240, 320), np.uint8)
    cv2.circle(bgr, (160, 120), 82, (0, 0, 255), -1)
    cv2.circle(alpha, (160, 120), 80, (255,), -1)
    result = shown(effect_of("blur-background", blur=0.05), Picture(bgr=bgr), map_of(alpha)).bgr
    assert np.abs(result[alpha == 0].astype(int) - 128).max() < 20


def test_the_blur_is_a_mean_of_the_background_weighted_by_nearness() -> None:
    """Against the definition, in full size and floating point."""
    random = np.random.default_rng(2)
    bgr = np.asarray(cv2.resize(random.integers(0, 256, (12, 16, 3)).astype(np.uint8), (320, 240)), np.uint8)
    alpha = disc(320, 240, soft=0)
    weights = (cv2.dilate(alpha, np.ones((9, 9), np.uint8)) == 0).astype(np.float32)[..., None]
    over, under = (
        cv2.GaussianBlur(each, (0, 0), 12, borderType=cv2.BORDER_CONSTANT) for each in (bgr * weights, weights)
    )
    wanted = over / (under[..., None] + 1e-9)
    found = blurred(Picture(bgr=bgr), alpha, 12).bgr
    difference = np.abs(found.astype(float) - wanted)[alpha == 0]
    assert difference.mean() < 1.5
    assert difference.max() < 15  # steep places, of what was eighty pixels of noise


@pytest.mark.parametrize("effect_size", [(2, 2), (4, 2), (6, 400), (400, 6)])
def test_tiny_and_narrow_pictures_are_blurred(effect_size: tuple[int, int]) -> None:
    picture = noise("planes", *effect_size)
    for alpha in (np.zeros, np.ones):
        known = map_of(alpha((effect_size[1], effect_size[0]), np.uint8) * np.uint8(255))
        result = shown(effect_of("blur-background", blur=0.5), picture, known)
        assert pixels_of(result).shape == pixels_of(picture).shape


def test_a_place_with_no_background_near_it_gets_a_mean_of_what_is_there() -> None:
    """A strip of background between two people, too narrow to be sure of."""
    alpha = np.full((120, 160), 255, np.uint8)
    alpha[:, 80:82] = 0
    bgr = np.full((120, 160, 3), (200, 0, 0), np.uint8)
    bgr[:, 80:82] = (0, 200, 0)
    result = shown(effect_of("blur-background"), Picture(bgr=bgr), map_of(alpha)).bgr
    assert np.array_equal(result[alpha == 255], bgr[alpha == 255])
    assert (result[:, 80:82, 1] > 60).all()


def test_a_larger_radius_leaves_less() -> None:
    picture, nobody = noise("planes", 320, 240), map_of(np.zeros((240, 320), np.uint8))
    assert picture.planes is not None
    left = [
        float(shown(effect_of("blur-background", blur=blur), picture, nobody).bgr.std()) for blur in (0.01, 0.04, 0.2)
    ]
    assert left[0] > 1.5 * left[1] > 2 * left[2]


# --- it fails closed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("effect", HIDING)
@pytest.mark.parametrize("size", [None, (64, 64), (WIDTH, 2 * HEIGHT), (WIDTH + 8, HEIGHT)])
def test_where_nobody_knows_what_is_what_everything_is_background(
    effect: str, form: str, size: tuple[int, int] | None
) -> None:
    picture, stage = noise(form), effect_of(effect)
    unknown = None if size is None else map_of(np.full(size[::-1], 255, np.uint8))
    everything = map_of(np.zeros((HEIGHT, WIDTH), np.uint8))
    assert np.array_equal(pixels_of(shown(stage, picture, unknown)), pixels_of(shown(stage, picture, everything)))
    line = stage.describe()
    assert line == f"effect: {effect}; all is background in 1 of 2 frames: no map of them"


def test_an_overlay_of_nothing_leaves_the_picture_and_says_so() -> None:
    stage = effect_of("overlay")
    frame = frame_of(noise("planes"), None)
    stage.process(frame)
    assert frame.rendered is None
    assert stage.describe() == "effect: overlay; nothing is tinted in 1 of 1 frames: no map of them"


def test_where_all_was_known_there_is_nothing_to_say() -> None:
    stage = effect_of("cut-out")
    shown(stage, noise("bgr"), map_of(disc()))
    assert stage.describe() is None


@pytest.mark.parametrize("form", FORMS)
def test_none_leaves_the_picture(form: str) -> None:
    frame = frame_of(noise(form), map_of(disc()))
    effect_of("none").process(frame)
    assert frame.rendered is None


# --- pictures that other stages have made ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("effect", ["overlay", "replace-background", "cut-out"])
def test_side_by_side_the_effect_is_in_both_halves(effect: str, form: str) -> None:
    picture, alpha = noise(form), disc()
    alone = shown(effect_of(effect), picture, map_of(alpha)).bgr
    twice = Picture(bgr=np.hstack([picture.bgr] * 2))
    both = shown(effect_of(effect), picture_in(form, picture, twice), map_of(alpha)).bgr
    for half in (both[:, :WIDTH], both[:, WIDTH:]):
        assert np.abs(half.astype(int) - alone).max() <= 1


def picture_in(form: str, one: Picture, twice: Picture) -> Picture:
    if form == "bgr":
        return twice
    assert one.planes is not None
    planes = [np.hstack([each] * 2).reshape(-1) for each in (one.planes.y, one.planes.u, one.planes.v)]
    return Picture(planes=Planes(np.concatenate(planes).reshape(-1, twice.width)))


def test_a_picture_that_was_made_smaller_or_larger_gets_the_effect_in_its_size() -> None:
    alpha = disc(soft=0)
    for width, height in ((48, 32), (192, 128), (94, 62)):
        drawn = noise("bgr", width, height)
        result = shown(effect_of("cut-out"), noise("planes"), map_of(alpha), rendered=drawn).bgr
        wanted = cv2.resize(alpha, (width, height))
        assert np.array_equal(result[wanted == 255], drawn.bgr[wanted == 255])
        assert not result[wanted == 0].any()


def test_it_works_on_what_stages_before_it_have_made() -> None:
    picture, drawn, alpha = noise("planes"), noise("planes", seed=9), disc()
    result = shown(effect_of("cut-out"), picture, map_of(alpha), rendered=drawn)
    assert result.planes is not None
    assert drawn.planes is not None
    assert np.array_equal(result.planes.y[alpha == 255], drawn.planes.y[alpha == 255])


def test_sources_and_sizes_may_change_from_frame_to_frame() -> None:
    stage = effect_of("replace-background", background="#123456")
    for index in range(24):
        width, height = 16 + 2 * (index % 11), 10 + 2 * (index % 7)
        form = FORMS[index % 2]
        picture = noise(form, width, height, index)
        nobody = map_of(np.zeros((height, width), np.uint8))
        result = shown(stage, picture, nobody, source=f"cam{index % 3}", index=index)
        assert np.array_equal(pixels_of(result), pixels_of(plain_like(picture, (0x56, 0x34, 0x12))))
    stage.end("cam1")


# --- overlay --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opacity", [0.1, 0.45, 1.0])
def test_an_overlay_mixes_in_as_much_colour_as_it_says(opacity: float) -> None:
    picture, alpha = noise("bgr"), disc()
    colour = np.array(THEMES["vivid"].of_class(0), float)
    weight = (alpha * opacity / 255)[..., None]
    wanted = picture.bgr * (1 - weight) + colour * weight
    result = shown(effect_of("overlay", opacity=opacity), picture, map_of(alpha))
    assert np.abs(result.bgr - wanted).max() <= 2


@pytest.mark.parametrize("form", FORMS)
def test_each_class_has_its_own_colour_and_the_background_none(form: str) -> None:
    class_ids = np.repeat(np.arange(4, dtype=np.uint8), WIDTH // 4)[None].repeat(HEIGHT, axis=0)
    alpha = np.where(class_ids > 0, 255, 0).astype(np.uint8)
    picture = plain_like(noise(form), (128, 128, 128))
    result = shown(effect_of("overlay", opacity=0.5), picture, map_of(alpha, class_ids, STREET)).bgr
    middles = [result[HEIGHT // 2, column].astype(int) for column in range(WIDTH // 8, WIDTH, WIDTH // 4)]
    assert np.abs(middles[0] - 128).max() <= 1
    for first in range(4):
        for second in range(first):
            assert np.abs(middles[first] - middles[second]).max() > 25


def test_a_soft_edge_has_the_colour_of_its_class_and_none_of_the_background() -> None:
    class_ids = np.zeros((40, 80), np.uint8)
    class_ids[:, 40:] = 2
    alpha = np.zeros((40, 80), np.uint8)
    alpha[:, 37:40], alpha[:, 40:] = 100, 255
    white = Picture(bgr=np.full((40, 80, 3), 255, np.uint8))
    result = shown(effect_of("overlay", opacity=1), white, map_of(alpha, class_ids, STREET)).bgr.astype(float)
    colour = result[20, 60]
    assert np.abs(result[20, 38] - (255 * 155 + colour * 100) / 255).max() <= 2


def test_only_classes_that_count_are_tinted() -> None:
    class_ids = np.repeat(np.arange(4, dtype=np.uint8), 20)[None].repeat(40, axis=0)
    alpha = np.full((40, 80), 255, np.uint8)
    picture = noise("bgr", 80, 40)
    result = shown(effect_of("overlay", classes=["road", "tree"]), picture, map_of(alpha, class_ids, STREET)).bgr
    changed = (result != picture.bgr).any(axis=2).mean(axis=0)
    assert (changed[np.r_[26:34, 62:80]] > 0.9).all()
    assert not changed[np.r_[5:15, 46:54]].any()


def test_an_unheard_of_class_is_not_tinted() -> None:
    picture, class_ids = noise("bgr"), np.full((HEIGHT, WIDTH), 200, np.uint8)
    known = map_of(np.full((HEIGHT, WIDTH), 255, np.uint8), class_ids, STREET)
    assert np.array_equal(shown(effect_of("overlay"), picture, known).bgr, picture.bgr)


def test_a_theme_gives_the_colours() -> None:
    picture = noise("bgr")
    frame = frame_of(picture, map_of(np.full((HEIGHT, WIDTH), 255, np.uint8)))
    Effect(SegmentSettings(effect="overlay", opacity=1), "mono").process(frame)
    assert (frame.output.bgr == 255).all()


# --- an image as background -----------------------------------------------------------------------------------------


@pytest.fixture
def scenery(tmp_path: Path) -> Path:
    """Left half blue, right half red, and wider than any picture here."""
    image = np.zeros((100, 400, 3), np.uint8)
    image[:, :200], image[:, 200:] = (255, 0, 0), (0, 0, 255)
    cv2.imwrite(str(tmp_path / "scenery.png"), image)
    return tmp_path / "scenery.png"


@pytest.mark.parametrize(
    ("matrix", "full_range"), [("bt601", False), ("bt709", False), ("bt601", True), ("bt709", True)]
)
def test_an_image_covers_the_picture_in_its_own_colours(scenery: Path, matrix: Matrix, full_range: bool) -> None:
    stage = effect_of("replace-background", background=str(scenery))
    nobody = map_of(np.zeros((HEIGHT, WIDTH), np.uint8))
    for picture in (noise("bgr"), Picture(planes=Planes(noise_planes(WIDTH, HEIGHT).data, matrix, full_range))):
        result = shown(stage, picture, nobody).bgr.astype(int)
        assert np.abs(result[:, : WIDTH // 2 - 4] - (255, 0, 0)).max() <= 4
        assert np.abs(result[:, WIDTH // 2 + 4 :] - (0, 0, 255)).max() <= 4


def test_an_image_of_any_shape_covers_pictures_of_any_shape(tmp_path: Path) -> None:
    for number, (image_size, size) in enumerate([((3, 900), (97, 31)), ((900, 3), (31, 97)), ((1, 1), (64, 64))]):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((image_size[1], image_size[0], 3), 77, np.uint8))
        stage = effect_of("replace-background", background=str(path))
        assert (shown(stage, noise("bgr", *size), None).bgr == 77).all()
