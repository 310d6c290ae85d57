"""Masks grown from boxes: close to a truth that is known, inside their boxes, and the same every time."""

import cv2
import numpy as np
import pytest

from irvf.training.pseudo_labels import IGNORED, object_masks, saliency_mask, semantic_mask

SIZE = (120, 160)
PERSON = (60, 30, 84, 90)
NONE = np.empty((0, 4), np.float32)


def boxes(*entries):
    return np.array(entries, np.float32).reshape(-1, 4)


def ellipse(box, size=SIZE):
    """The ellipse that fills a box, ``[H x W]`` bool."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    left, top, right, bottom = box
    return ((x - (left + right) / 2) / ((right - left) / 2)) ** 2 + (
        (y - (top + bottom) / 2) / ((bottom - top) / 2)
    ) ** 2 <= 1


def thermal_image(*objects, size=SIZE, level=180, background=60, noise=6, seed=0):
    """A noisy, unevenly warm street with warmer ellipses in it."""
    rng = np.random.default_rng(seed)
    image = background + np.linspace(-12, 12, size[1])[None] + rng.normal(0, noise, size)
    for box in objects:
        image[ellipse(box, size)] += level - background
    return cv2.GaussianBlur(image.clip(0, 255).astype(np.uint8), (3, 3), 0)


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def inside(box, size=SIZE):
    mask = np.zeros(size, bool)
    left, top, right, bottom = (max(0, round(edge)) for edge in box)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("box", [PERSON, (20, 60, 44, 76), (70, 20, 82, 50), (10, 10, 150, 110)])
def test_a_warm_object_is_found_in_its_box(box, seed):
    (mask,) = object_masks(thermal_image(box, seed=seed), boxes(box))
    assert mask.shape == SIZE
    assert mask.dtype == bool
    assert iou(mask, ellipse(box)) > 0.7
    assert not (mask & ~inside(box)).any()


def test_a_box_with_a_margin_is_cut_back_to_the_object():
    loose = (PERSON[0] - 4, PERSON[1] - 6, PERSON[2] + 4, PERSON[3] + 6)
    truth = ellipse(PERSON)
    (mask,) = object_masks(thermal_image(PERSON), boxes(loose))
    assert iou(mask, truth) > 0.7
    assert iou(mask, truth) > iou(inside(loose), truth) + 0.15


def test_a_cold_object_is_found_too():
    (mask,) = object_masks(thermal_image(PERSON, level=20, background=110), boxes(PERSON))
    assert iou(mask, ellipse(PERSON)) > 0.7


def test_an_object_that_does_not_show_becomes_its_box_with_round_corners():
    (mask,) = object_masks(np.full(SIZE, 80, np.uint8), boxes(PERSON))
    assert 0.6 < mask.sum() / inside(PERSON).sum() < 1
    assert not mask[PERSON[1], PERSON[0]]
    assert mask[60, 72]


@pytest.mark.parametrize("box", [(50, 50, 54, 53), (50, 50, 51, 51), (50.2, 50.2, 50.4, 50.4), (20, 20, 25, 60)])
def test_tiny_boxes_are_taken_whole(box):
    (mask,) = object_masks(thermal_image(), boxes(box))
    left, top = round(box[0]), round(box[1])
    expected = np.zeros(SIZE, bool)
    expected[top : max(round(box[3]), top + 1), left : max(round(box[2]), left + 1)] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "box",
    [(-10, 40, 14, 100), (150, 40, 180, 100), (60, -20, 84, 30), (60, 100, 84, 140), (-20, -20, 200, 200),
     (0, 0, 160, 120), (159.8, 40, 160, 60), (165, 130, 175, 140), (0, 30, 160, 37), (30, 0, 37, 120)],
)  # fmt: skip
def test_boxes_at_the_border_stay_within_the_image(box):
    (mask,) = object_masks(thermal_image(box), boxes(box))
    assert mask.shape == SIZE
    assert not (mask & ~inside(box)).any()
    visible = ellipse(box)
    if visible.sum() > 100:
        assert iou(mask, visible) > 0.5


def test_the_masks_are_the_same_every_time():
    image = thermal_image(PERSON, (20, 60, 44, 76))
    first = object_masks(image, boxes(PERSON, (20, 60, 44, 76)))
    cv2.setRNGSeed(99)
    again = object_masks(image, boxes((20, 60, 44, 76), PERSON))
    np.testing.assert_array_equal(first[0], again[1])
    np.testing.assert_array_equal(first[1], again[0])


def test_no_boxes_give_no_masks():
    image = thermal_image()
    assert object_masks(image, NONE) == []
    assert not semantic_mask(image, NONE, np.empty(0, np.int64), NONE).any()
    assert not saliency_mask(image, NONE, NONE).any()


def test_the_lower_of_two_objects_is_in_front():
    car, person = (30, 40, 110, 80), (60, 45, 80, 95)
    image = thermal_image(car, person)
    for order in ((0, 1), (1, 0)):
        given, labels = boxes(car, person)[list(order)], np.array([2, 0])[list(order)]
        mask = semantic_mask(image, given, labels, NONE)
        grown = dict(zip(labels.tolist(), object_masks(image, given), strict=True))
        assert (mask[grown[0]] == 1).all()
        assert (mask[grown[2] & ~grown[0]] == 3).all()
        assert (mask[~(grown[0] | grown[2])] == 0).all()
        assert (grown[0] & grown[2]).any()


def test_nothing_is_asked_in_doubtful_boxes_but_for_objects():
    image = thermal_image(PERSON)
    doubtful = boxes((70, 20, 130, 60), (-5, 100, 20, 130))
    for mask in (
        semantic_mask(image, boxes(PERSON), np.array([0]), doubtful),
        saliency_mask(image, boxes(PERSON), doubtful),
    ):
        assert set(np.unique(mask)) == {0, 1, IGNORED}
        (grown,) = object_masks(image, boxes(PERSON))
        np.testing.assert_array_equal(mask == 1, grown)
        ignored = (inside(doubtful[0]) | inside(doubtful[1])) & ~grown
        np.testing.assert_array_equal(mask == IGNORED, ignored)


@pytest.mark.parametrize(("level", "value"), [(180, 1), (75, 1), (61, IGNORED), (20, IGNORED)])
def test_only_what_is_warmer_than_its_surroundings_is_salient(level, value):
    image = thermal_image(PERSON, level=level, noise=2)
    mask = saliency_mask(image, boxes(PERSON), NONE)
    assert set(np.unique(mask)) == {0, value}
    assert (mask == value)[45:75, 68:76].all()
    assert not mask[~inside(PERSON)].any()


def test_a_warm_object_in_front_of_a_cold_one_is_salient():
    car, person = (30, 40, 110, 80), (60, 45, 80, 95)
    image = thermal_image(background=110, noise=2)
    image[ellipse(car)] -= 60
    image[ellipse(person)] = 190
    mask = saliency_mask(image, boxes(car, person), NONE)
    assert iou(mask == 1, ellipse(person)) > 0.7
    assert iou(mask == IGNORED, ellipse(car) & ~ellipse(person)) > 0.7
