"""Labelled images: label files, and boxes that must stay on their pixels however the image is cut."""

import numpy as np
import pytest

from irvf.training.detection_data import (
    VISIBLE_SHARE,
    LabelledImage,
    adjust_tones,
    compose_mosaic,
    cut_window,
    overlap,
    read_yolo_boxes,
)

BOX = (50, 30, 90, 80)
BRIGHT = 127  # above the grey of the border, below half of what is painted


def painted(box=BOX, color=(255, 255, 255), label=0, size=(120, 160)):
    """A black image with one object."""
    image = np.zeros((*size, 3), np.uint8)
    x_min, y_min, x_max, y_max = box
    image[y_min:y_max, x_min:x_max] = color
    boxes, labels = np.array([box], np.float32), np.array([label], np.int64)
    return LabelledImage([image, image], boxes, labels, np.empty((0, 4), np.float32), f"image of {label}")


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.fixture
def labels(tmp_path):
    file = tmp_path / "00001.txt"

    def read(text):
        file.write_text(text, "utf-8")
        return read_yolo_boxes(file, 200, 100, 3)

    return read


def test_yolo_lines_become_pixels(labels):
    boxes, classes = labels("0 0.5 0.5 0.2 0.4\n\n2 0.1 0.25 0.1 0.5\n")
    np.testing.assert_allclose(boxes, [[80, 30, 120, 70], [10, 0, 30, 50]], atol=1e-4)
    assert classes.tolist() == [0, 2]


def test_boxes_end_at_the_border(labels):
    boxes, _ = labels("0 0.0 1.0 0.2 0.2\n")
    np.testing.assert_allclose(boxes, [[0, 90, 20, 100]], atol=1e-4)


def test_no_file_and_an_empty_file_mean_no_objects(tmp_path, labels):
    for boxes, classes in (read_yolo_boxes(tmp_path / "none.txt", 200, 100, 3), labels("")):
        assert boxes.shape == (0, 4)
        assert classes.shape == (0,)


@pytest.mark.parametrize(
    "line",
    ["0 0.5 0.5 0.2", "0 0.5 0.5 0.2 0.2 0.9", "0", "car 0.5 0.5 0.2 0.2", "0 50 50 20 20", "0 0.5 0.5 0 0.2",
     "0 0.5 0.5 -0.1 0.2", "0 nan 0.5 0.2 0.2", "3 0.5 0.5 0.2 0.2", "-1 0.5 0.5 0.2 0.2", "0.5 0.5 0.5 0.2 0.2",
     "nan 0.5 0.5 0.2 0.2"],
)  # fmt: skip
def test_a_bad_line_is_named_with_file_and_number(labels, line):
    with pytest.raises(ValueError, match=r"00001\.txt:2: "):
        labels(f"0 0.5 0.5 0.2 0.4\n{line}\n")


def test_overlap_by_hand():
    first = np.array([[0, 0, 2, 2], [5, 5, 6, 6]], np.float32)
    second = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2]], np.float32)
    np.testing.assert_allclose(overlap(first, second), [[1 / 7, 1, 0], [0, 0, 0]], atol=1e-6)


def test_windows_keep_boxes_on_their_pixels():
    kept = 0
    for seed in range(80):
        window = cut_window(painted(), 96, 80, (0.6, 1.6), np.random.default_rng(seed))
        assert window.image.shape == (80, 96, 3)
        assert window.names == ("image of 0",)
        for box in window.boxes:
            np.testing.assert_allclose(box, extent(window.image[..., 0] > BRIGHT), atol=1.5)
            kept += 1
        assert len(window.boxes) == len(window.labels)
    assert kept > 30


def test_half_of_the_windows_are_mirrored():
    scene = painted()
    for image in scene.variants:
        image[30:80, 50:70, 2] = 0  # the left half of the object is yellow
    mirrored = 0
    for seed in range(60):
        window = cut_window(scene, 160, 120, (1.0, 1.0), np.random.default_rng(seed))
        columns = np.arange(160)
        yellow = (window.image[..., 0] > BRIGHT) & (window.image[..., 2] < BRIGHT)
        white = window.image[..., 2] > BRIGHT
        if yellow.any() and white.any():
            mirrored += columns[yellow.any(0)].mean() > columns[white.any(0)].mean()
    assert 15 < mirrored < 45


def test_what_is_hardly_shown_is_ignored_and_the_rest_is_an_object():
    area = (BOX[2] - BOX[0]) * (BOX[3] - BOX[1])
    seen = set()
    for seed in range(200):
        window = cut_window(painted(), 48, 48, (1.0, 1.0), np.random.default_rng(seed))
        share = (window.image[..., 0] > BRIGHT).sum() / area
        sliver = any(min(box[2:] - box[:2]) < 1 for box in window.ignored)
        if abs(share - VISIBLE_SHARE) < 0.05 or sliver:
            continue
        case = "object" if share > VISIBLE_SHARE else "ignored" if share else "absent"
        counts = {"object": (1, 0), "ignored": (0, 1), "absent": (0, 0)}
        assert (len(window.boxes), len(window.ignored)) == counts[case]
        seen.add(case)
    assert seen == {"object", "ignored", "absent"}


def test_ignored_regions_move_along():
    scene = painted()
    scene = LabelledImage(scene.variants, scene.boxes[:0], scene.labels[:0], scene.boxes)
    moved = 0
    for seed in range(40):
        window = cut_window(scene, 128, 128, (0.6, 1.6), np.random.default_rng(seed))
        assert not len(window.boxes)
        for box in window.ignored:
            if min(box[2:] - box[:2]) > 3:
                np.testing.assert_allclose(box, extent(window.image[..., 0] > BRIGHT), atol=1.5)
                moved += 1
    assert moved > 10


def test_mosaics_keep_boxes_and_classes_on_their_pixels():
    colors = np.eye(3, dtype=np.uint8) * 255
    scenes = [painted(color=tuple(color), label=label) for label, color in enumerate(colors)]
    objects = 0
    for seed in range(30):
        window = compose_mosaic(scenes, 160, (0.6, 1.2), np.random.default_rng(seed))
        assert window.image.shape == (160, 160, 3)
        assert len(window.names) == 4
        assert {f"image of {label}" for label in window.labels} <= set(window.names)
        drawn = np.zeros((160, 160), bool)
        outline = 0.0
        for box in (*window.boxes, *window.ignored):
            x_min, y_min, x_max, y_max = np.round(box).astype(int)
            drawn[y_min:y_max, x_min:x_max] = True
            outline += 2 * (x_max - x_min + y_max - y_min) + 8
        assert ((window.image > BRIGHT).any(2) ^ drawn).sum() <= outline
        for box, label in zip(window.boxes, window.labels, strict=True):
            x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            assert window.image[y, x].argmax() == label
            objects += 1
    assert objects > 30


def test_rare_classes_are_visited_as_often_as_common_ones():
    image = np.zeros((200, 400, 3), np.uint8)
    common = [(10.0, 10.0 + 4 * row, 14.0, 13.0 + 4 * row) for row in range(40)]
    boxes = np.array([*common, (380, 100, 390, 110)], np.float32)
    labels = np.array([0] * 40 + [1])
    scene = LabelledImage([image], boxes, labels, np.empty((0, 4), np.float32))
    windows = [cut_window(scene, 64, 64, (1.0, 1.0), np.random.default_rng(seed)) for seed in range(200)]
    # A window around the rare one in a quarter of all cases, and by chance in a few more.
    assert sum(1 in window.labels for window in windows) > 35


def test_no_strength_changes_nothing():
    image = painted(color=(200, 90, 30)).variants[0]
    np.testing.assert_allclose(adjust_tones(image, np.random.default_rng(0), 0.0).astype(int), image, atol=1)


def test_tones_change_but_nothing_moves():
    rng = np.random.default_rng(0)
    image = painted().variants[0]
    changed = [adjust_tones(image, rng) for _ in range(8)]
    for result in changed:
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        assert result[30:80, 50:90].mean() > result[:20].mean() + 60
    assert len({int(result[60, 60, 0]) for result in changed}) > 2
