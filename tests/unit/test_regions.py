import time

import cv2
import numpy as np
import pytest

from irvf.frames import Box, Detection
from irvf.imaging.effects import MaskedEffect, apply_effects
from irvf.instruction.instruction import Region
from irvf.perception.regions import RegionFinder, region_mask

SIZE = (240, 320)
PEOPLE = Region("people", objects=("person",))
ANYTHING = Region("all objects", objects=())
LEFT = Region("left half", zone=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
PERSON = Detection(Box(100, 60, 140, 160), "person", 0.9)
CAR = Detection(Box(200, 100, 290, 150), "car", 0.8)
FOUND = (PERSON, CAR)


def inside(box, share=0.5):
    """Pixels of the middle of a box, the share of its sides."""
    (x, y), half_width, half_height = box.center, box.width * share / 2, box.height * share / 2
    return slice(round(y - half_height), round(y + half_height)), slice(round(x - half_width), round(x + half_width))


def outside(*boxes, margin=0.5):
    """Pixels that are further from every box than that share of its sides."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    away = np.ones(SIZE, bool)
    for box in boxes:
        near_x = (columns > box.x_min - margin * box.width) & (columns < box.x_max + margin * box.width)
        near_y = (rows > box.y_min - margin * box.height) & (rows < box.y_max + margin * box.height)
        away &= ~(near_x & near_y)
    return away


def test_objects_of_a_class_are_masked_and_nothing_else():
    mask = region_mask(PEOPLE, SIZE, FOUND)
    assert mask.shape == SIZE
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask[inside(PERSON.box)], 1)
    np.testing.assert_array_equal(mask[outside(PERSON.box)], 0)


def test_no_class_means_every_object():
    mask = region_mask(ANYTHING, SIZE, FOUND)
    for found in FOUND:
        np.testing.assert_array_equal(mask[inside(found.box)], 1)
    np.testing.assert_array_equal(mask[outside(PERSON.box, CAR.box)], 0)


def test_overlapping_objects_are_a_union():
    other = Detection(Box(120, 60, 160, 160), "person", 0.5)
    both, one, two = (region_mask(PEOPLE, SIZE, found) for found in ((PERSON, other), (PERSON,), (other,)))
    np.testing.assert_allclose(both, np.maximum(one, two), atol=0.02)


@pytest.mark.parametrize("region", [PEOPLE, ANYTHING, LEFT])
def test_inverted_is_one_minus_the_mask(region):
    mask, rest = (region_mask(wanted, SIZE, FOUND) for wanted in (region, region.complement()))
    np.testing.assert_allclose(mask + rest, 1, atol=1e-6)
    assert rest.min() == pytest.approx(0, abs=1e-6)
    assert rest.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("found", [(), (CAR,)])
@pytest.mark.parametrize("with_guide", [False, True])
def test_nothing_found_is_nothing(found, with_guide):
    guide = np.full(SIZE, 0.5, np.float32) if with_guide else None
    np.testing.assert_array_equal(region_mask(PEOPLE, SIZE, found, guide=guide), 0)
    np.testing.assert_array_equal(region_mask(PEOPLE.complement(), SIZE, found, guide=guide), 1)


def test_borders_are_soft_and_corners_round():
    mask = region_mask(PEOPLE, SIZE, (PERSON,))
    assert np.abs(np.diff(mask, axis=0)).max() < 0.2
    assert np.abs(np.diff(mask, axis=1)).max() < 0.2
    at_side, at_corner = mask[110, 100], mask[61, 101]
    assert 0.3 < at_side < 0.9
    assert at_corner < 0.4 * at_side


def test_border_is_wider_for_larger_objects():
    def width(box):
        row = region_mask(PEOPLE, SIZE, (Detection(box, "person", 1.0),))[120]
        return ((row > 0.05) & (row < 0.95)).sum()

    assert width(Box(60, 20, 260, 220)) > 2 * width(Box(140, 100, 180, 140))


@pytest.mark.parametrize(
    "box",
    [Box(-40, -30, 30, 40), Box(300, 200, 400, 300), Box(-50, -50, 400, 300), Box(310, -20, 330, 260)],
    ids=["top left", "bottom right", "all over", "right side"],
)
def test_box_partly_outside(box):
    mask = region_mask(PEOPLE, SIZE, (Detection(box, "person", 1.0),))
    assert np.isfinite(mask).all()
    x, y = (min(max(round(value), 0), side - 1) for value, side in zip(box.center, SIZE[::-1], strict=True))
    assert mask[y, x] > 0.9
    assert mask.max() <= 1


@pytest.mark.parametrize("box", [Box(-90, 10, -50, 60), Box(400, 300, 450, 360)])
def test_box_outside_is_nothing(box):
    np.testing.assert_array_equal(region_mask(PEOPLE, SIZE, (Detection(box, "person", 1.0),)), 0)


@pytest.mark.parametrize("side", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("shift", [0.0, 1.3, 2.0, 3.9])
def test_tiny_box_is_not_lost(side, shift):
    x = 100 + shift
    mask = region_mask(PEOPLE, SIZE, (Detection(Box(x, x, x + side, x + side), "person", 1.0),))
    assert mask[round(x), round(x)] > 0.4
    assert (mask > 0).sum() < 600


@pytest.mark.parametrize("size", [(17, 23), (16, 16), (481, 641)])
@pytest.mark.parametrize("region", [PEOPLE, LEFT, PEOPLE.complement()])
def test_odd_sizes(size, region):
    guide = np.random.default_rng(0).random(size).astype(np.float32)
    person = Detection(Box(2, 3, size[1] / 2, size[0] - 2), "person", 1.0)
    mask = region_mask(region, size, (person,), np.ones(size, np.uint8), ("background", "person"), guide=guide)
    assert mask.shape == size
    assert np.isfinite(mask).all()
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_pixels_of_the_segmentation_are_added():
    segmentation = np.zeros(SIZE, np.uint8)
    segmentation[20:60, 20:60], segmentation[180:220, 20:60] = 1, 2
    labels = ("background", "person", "bicycle")
    mask = region_mask(PEOPLE, SIZE, (PERSON,), segmentation, labels)
    np.testing.assert_allclose(mask[30:50, 30:50], 1, atol=1e-6)
    np.testing.assert_array_equal(mask[inside(PERSON.box)], 1)
    np.testing.assert_array_equal(mask[180:220, 20:60], 0)
    every = region_mask(ANYTHING, SIZE, (), segmentation, labels)
    np.testing.assert_allclose(every[190:210, 30:50], 1, atol=1e-6)
    np.testing.assert_array_equal(every[100:140], 0)


def test_background_of_the_segmentation_is_no_object():
    segmentation = np.zeros(SIZE, np.uint8)
    everything = region_mask(ANYTHING, SIZE, (), segmentation, ("background", "person"))
    np.testing.assert_array_equal(everything, 0)


def test_zone_lies_where_its_corners_say():
    mask = region_mask(LEFT, SIZE, ())
    np.testing.assert_allclose(mask[:, :140], 1, atol=1e-3)
    np.testing.assert_allclose(mask[:, 180:], 0, atol=1e-3)
    np.testing.assert_allclose(mask[:, 158:162].mean(), 0.5, atol=0.1)
    triangle = Region("sky", zone=((0.0, 0.0), (1.0, 0.0), (0.5, 0.6)))
    mask = region_mask(triangle, SIZE, ())
    assert mask.mean() == pytest.approx(0.3, abs=0.02)
    assert mask[60, 160] == pytest.approx(1, abs=1e-3)
    assert mask[200, 160] == pytest.approx(0, abs=1e-3)


def test_objects_with_a_zone_are_those_in_it():
    both = Region("people on the left", objects=(), zone=LEFT.zone)
    mask = region_mask(both, SIZE, FOUND)
    np.testing.assert_allclose(mask[inside(PERSON.box)], 1, atol=1e-3)
    np.testing.assert_allclose(mask[inside(CAR.box)], 0, atol=1e-3)


def test_mask_follows_the_outline_that_the_guide_shows():
    guide, person = np.full(SIZE, 0.1, np.float32), np.zeros(SIZE, np.float32)
    cv2.ellipse(person, (120, 110), (11, 44), 0, 0, 360, 1.0, -1)
    guide += 0.6 * cv2.GaussianBlur(person, (3, 3), 0)
    plain, guided = (region_mask(PEOPLE, SIZE, (PERSON,), guide=image) for image in (None, guide))
    assert np.abs(guided - person).mean() < 0.75 * np.abs(plain - person).mean()
    assert guided[person == 1].mean() > 0.95
    np.testing.assert_array_equal(guided[outside(PERSON.box)], 0)


@pytest.mark.parametrize("box", [PERSON.box, Box(200, 100, 206, 112)], ids=["near", "far away"])
def test_mask_where_the_guide_shows_nothing_is_that_of_the_box(box):
    found = (Detection(box, "person", 0.9),)
    plain, guided = (region_mask(PEOPLE, SIZE, found, guide=guide) for guide in (None, np.full(SIZE, 0.4, np.float32)))
    np.testing.assert_allclose(guided, plain, atol=1e-3)


def test_effects_stay_in_the_region():
    planes = [np.random.default_rng(seed).random(SIZE).astype(np.float32) for seed in range(3)]
    mask = region_mask(PEOPLE, SIZE, FOUND, guide=planes[0])
    look = apply_effects(*planes, [MaskedEffect("illumination", 1.0, mask)])
    away = outside(PERSON.box)
    np.testing.assert_array_equal(look.luma[away], planes[0][away])
    assert (look.luma[inside(PERSON.box)] > planes[0][inside(PERSON.box)]).all()


def test_function_is_a_finder():
    finder: RegionFinder = region_mask
    assert finder(LEFT, (16, 16), ()).shape == (16, 16)


def test_mask_of_many_objects_takes_a_small_part_of_a_frame():
    found = [Detection(Box(20 + 50 * k, 100, 60 + 50 * k, 260), "person", 0.9) for k in range(12)]
    guide, best = np.random.default_rng(0).random((480, 640)).astype(np.float32), np.inf
    for _ in range(20):
        started = time.perf_counter()
        region_mask(PEOPLE, (480, 640), found, guide=guide)
        best = min(best, time.perf_counter() - started)
    assert best < 0.01  # 0.6 ms on two cores of an EPYC
