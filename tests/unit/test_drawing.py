"""Drawing: boxes and regions where they belong, legible on any background, sheets that hold their images."""

import numpy as np
import pytest

from irvf.frames import Box, Detection
from irvf.imaging.drawing import color_of, contact_sheet, draw_detections, draw_saliency, draw_segmentation

LUMA = np.array([0.299, 0.587, 0.114])


def detection(x_min=40, y_min=60, x_max=100, y_max=140, label="person", score=0.87):
    return Detection(Box(x_min, y_min, x_max, y_max), label, score)


def test_the_image_is_left_alone():
    rgb = np.full((200, 300, 3), 90, np.uint8)
    rgb.setflags(write=False)
    drawn = draw_detections(rgb, [detection()], "detection")
    assert (rgb == 90).all()
    assert (drawn != 90).any()


def test_nothing_found_and_nothing_said_is_the_image():
    rgb = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_detections(rgb, []), rgb)


def test_the_outline_lies_on_the_box():
    drawn = draw_detections(np.zeros((200, 300, 3), np.uint8), [detection()])
    color = color_of("person")
    for y, x in ((100, 40), (100, 99), (139, 70)):  # the last pixels inside the right and lower edges
        np.testing.assert_array_equal(drawn[y, x], color)
    assert not drawn[80:120, 50:90].any()
    assert not drawn[:, 130:].any()


@pytest.mark.parametrize("label", ["person", "bicycle", "car", "truck"])
@pytest.mark.parametrize("background", [0, 128, 255])
def test_outlines_and_labels_stand_out_from_any_background(label, background):
    rgb = np.full((200, 300, 3), background, np.uint8)
    drawn = draw_detections(rgb, [detection(label=label)])
    outline = drawn[100, 36:46] @ LUMA
    assert np.ptp(outline) > 80
    letters = drawn[45:60, 40:80] @ LUMA
    assert np.ptp(letters) > 80


def test_classes_have_different_colors_that_stay():
    assert len({color_of(label) for label in ("person", "bicycle", "car", "truck")}) == 4
    assert color_of("truck") == color_of("truck")


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (250, 150, 900, 900), (400, 300, 500, 400), (10.2, 10.1, 10.4, 10.3), (0, 0, 300, 200)]
)
def test_boxes_at_and_over_the_border_are_drawn_inside(box):
    drawn = draw_detections(np.zeros((200, 300, 3), np.uint8), [detection(*box)])
    assert drawn.shape == (200, 300, 3)
    assert drawn.any()


def test_the_better_detection_lies_on_top():
    best, other = detection(score=0.9, label="car"), detection(score=0.4, label="person")
    drawn = draw_detections(np.zeros((200, 300, 3), np.uint8), [best, other])
    np.testing.assert_array_equal(drawn[100, 40], color_of("car"))


def test_the_caption_stands_in_the_lower_left_corner():
    drawn = draw_detections(np.zeros((200, 300, 3), np.uint8), [], "segmentation")
    assert drawn[180:, :100].any()
    assert not drawn[:170].any()


def segmented(height=200, width=300):
    """A large person, a car, and a small person left of and above them."""
    segmentation = np.zeros((height, width), np.uint8)
    segmentation[60:150, 100:160] = 1
    segmentation[90:150, 200:280] = 3
    segmentation[30:36, 10:14] = 1
    return segmentation


CLASSES = ("background", "person", "bicycle", "car")


@pytest.mark.parametrize("background", [0, 90, 255])
def test_regions_are_tinted_with_their_colour_and_the_rest_is_left(background):
    rgb = np.full((200, 300, 3), background, np.uint8)
    rgb.setflags(write=False)
    segmentation = segmented()
    drawn = draw_segmentation(rgb, segmentation, CLASSES).astype(int)
    for number, (y, x) in ((1, (120, 130)), (3, (120, 240))):
        away, towards = drawn[y, x] - background, np.array(color_of(CLASSES[number])) - background
        widest = np.abs(towards).argmax()
        share = away[widest] / towards[widest]
        # Part of the way to the colour, the same part in every channel: the image shows through.
        assert 0.3 < share < 0.7
        np.testing.assert_allclose(away, share * towards, atol=1)
    assert (drawn[160:] == background).all()
    assert (drawn[:20] == background).all()


def test_each_class_is_named_once_at_its_largest_region():
    drawn = draw_segmentation(np.zeros((200, 300, 3), np.uint8), segmented(), CLASSES)
    colors = {name: (drawn == color_of(name)).all(axis=2) for name in CLASSES}
    # A name stands on a filled field above the upper left corner of its region.
    assert colors["person"][50:58, 100:125].mean() > 0.1
    assert colors["car"][80:88, 200:215].mean() > 0.1
    assert not colors["person"][15:29, :40].any()
    assert not colors["bicycle"].any()
    letters = drawn[48:58, 102:130] @ LUMA
    assert np.ptp(letters) > 80


def test_classes_without_a_name_and_images_without_classes_are_left():
    rgb = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_segmentation(rgb, np.zeros((50, 60), np.uint8), CLASSES), rgb)
    np.testing.assert_array_equal(draw_segmentation(rgb, np.full((50, 60), 9, np.uint8), CLASSES), rgb)


@pytest.mark.parametrize("size", [(16, 16), (480, 640), (1, 300)])
def test_a_class_everywhere_is_drawn_inside(size):
    drawn = draw_segmentation(np.zeros((*size, 3), np.uint8), np.ones(size, np.uint8), CLASSES)
    assert drawn.shape == (*size, 3)
    assert drawn.any()


def test_what_stands_out_turns_warm_and_the_rest_darker():
    rgb = np.full((40, 60, 3), 100, np.uint8)
    saliency = np.zeros((40, 60), np.uint8)
    saliency[:, 20:40], saliency[:, 40:] = 128, 255
    nothing, half, all_of_it = draw_saliency(rgb, saliency).astype(int)[20, (5, 30, 55)]
    assert (nothing < 90).all()
    assert all_of_it[0] > all_of_it[1] > all_of_it[2]
    assert all_of_it @ LUMA > 100
    np.testing.assert_allclose(half, (nothing + all_of_it) / 2, atol=2)
    assert (rgb == 100).all()


def test_a_sheet_holds_each_image_in_its_row_and_column():
    colors = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (90, 90, 90)]]
    rows = [[np.full((30, 60, 3), color, np.uint8) for color in row] for row in colors]
    rows[1][1] = np.full((60, 60), 90, np.uint8)  # grey, and of another aspect
    sheet = contact_sheet(rows, ["left", "right"], ["before", "after"], cell_width=120)
    places = {}
    for row in colors:
        for color in row:
            y, x = np.nonzero((sheet == color).all(axis=2))
            assert len(y) >= 120 * (120 if color == (90, 90, 90) else 60)
            places[color] = (np.median(y), np.median(x))
    assert places[(200, 0, 0)][1] < places[(0, 200, 0)][1]
    assert places[(200, 0, 0)][0] == places[(0, 200, 0)][0] < places[(0, 0, 200)][0]
    assert places[(0, 0, 200)][1] == places[(200, 0, 0)][1]


@pytest.mark.parametrize(
    ("rows", "columns", "titles"), [([], ["a"], []), ([[0, 0]], ["a"], ["x"]), ([[0], [0]], ["a"], ["x"])]
)
def test_sheets_that_do_not_fit_their_titles_are_refused(rows, columns, titles):
    images = [[np.zeros((4, 4), np.uint8) for _ in row] for row in rows]
    with pytest.raises(ValueError, match="do not fit"):
        contact_sheet(images, columns, titles)
