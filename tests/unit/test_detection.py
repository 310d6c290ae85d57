"""Detection: boxes worked out by hand on the network's input must come out where they are in the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvf.engines.engine import EngineError
from irvf.perception.detection import BoxDetector

LABELS = ("person", "bicycle", "car")
GREY = 114 / 255


class Predicting:
    """An engine that says what it is told to, and remembers what it was given."""

    description = "predictions from a table"
    input_names = ("image",)
    output_names = ("predictions",)

    def __init__(self, rows=(), **given):
        self.predictions = given.get("predictions", table(rows))
        self.image = None

    def infer(self, inputs):
        self.image = inputs["image"]
        return {"predictions": self.predictions}


def table(rows):
    """Rows of (cx, cy, w, h, person, bicycle, car) as a network's output."""
    return np.array(rows, np.float32).reshape(-1, 7).T[None].copy()


def detect(rows, shape=(64, 96, 3), classes=(), **settings):
    detector = BoxDetector(Predicting(rows), LABELS, (64, 96), **settings)
    return detector.detect(np.zeros(shape, np.uint8), classes)


def corners(found):
    return (found.box.x_min, found.box.y_min, found.box.x_max, found.box.y_max)


class Seeing(Predicting):
    """Finds where the white image lies in its input, and predicts a box at given shares of it."""

    def __init__(self, shares):
        super().__init__()
        self.shares = np.array(shares)

    def infer(self, inputs):
        plane = inputs["image"][0, 0]
        columns, rows = np.nonzero((plane > 0.9).any(axis=0))[0], np.nonzero((plane > 0.9).any(axis=1))[0]
        left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        x_min, x_max = left + self.shares[[0, 2]] * (right - left)
        y_min, y_max = top + self.shares[[1, 3]] * (bottom - top)
        row = ((x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min, 0.9, 0, 0)
        return {"predictions": np.array(row, np.float64).reshape(1, 7, 1)}


@given(height=st.integers(33, 1300), width=st.integers(33, 1300), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_letterboxing_is_undone_exactly_for_any_size(height, width, seed):
    low = np.random.default_rng(seed).uniform(0.0, 0.4, 2)
    high = np.random.default_rng(seed + 1).uniform(0.6, 1.0, 2)
    detector = BoxDetector(Seeing([*low, *high]), LABELS, (320, 416))
    (found,) = detector.detect(np.full((height, width, 3), 255, np.uint8))
    expected = np.array([*low, *high]) * (width, height, width, height)
    np.testing.assert_allclose(corners(found), expected, atol=1e-3)


def test_the_network_sees_rgb_from_0_to_1_between_grey_borders():
    engine = Predicting()
    rgb = np.zeros((100, 100, 3), np.uint8)
    rgb[...] = (255, 51, 0)
    BoxDetector(engine, LABELS, (64, 128)).detect(rgb)
    assert engine.image.shape == (1, 3, 64, 128)
    assert engine.image.dtype == np.float32
    np.testing.assert_allclose(engine.image[0, :, :, 32:96], np.broadcast_to([[[1]], [[0.2]], [[0]]], (3, 64, 64)))
    np.testing.assert_allclose(engine.image[0, :, :, :32], GREY, atol=1e-6)
    np.testing.assert_allclose(engine.image[0, :, :, 96:], GREY, atol=1e-6)


def test_an_image_of_the_input_size_is_not_resampled():
    engine = Predicting()
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    BoxDetector(engine, LABELS, (64, 96)).detect(rgb)
    np.testing.assert_allclose(engine.image[0].transpose(1, 2, 0) * 255, rgb, atol=1e-3)


def test_detections_carry_label_and_score_best_first():
    found = detect([(20, 20, 10, 10, 0.5, 0.1, 0), (60, 30, 20, 10, 0, 0.2, 0.9), (40, 50, 8, 8, 0, 0.7, 0.6)])
    assert [one.label for one in found] == ["car", "bicycle", "person"]
    assert [one.score for one in found] == pytest.approx([0.9, 0.7, 0.5])
    assert corners(found[0]) == pytest.approx((50, 25, 70, 35))


def test_nothing_seen_is_an_empty_answer():
    assert detect([]) == ()
    assert detect([(20, 20, 10, 10, 0.1, 0.1, 0.1)]) == ()


def test_score_threshold():
    rows = [(20, 20, 10, 10, 0.36, 0, 0), (60, 30, 10, 10, 0.34, 0, 0)]
    assert len(detect(rows, score_threshold=0.35)) == 1
    assert len(detect(rows, score_threshold=0.3)) == 2


def test_of_two_boxes_of_one_class_the_better_stays():
    # Shifted by a fifth of the width: intersection over union 8 / 12.
    rows = [(50, 30, 20, 20, 0.8, 0, 0), (54, 30, 20, 20, 0.9, 0, 0)]
    assert [one.score for one in detect(rows, iou_threshold=0.6)] == pytest.approx([0.9])
    assert len(detect(rows, iou_threshold=0.7)) == 2


def test_boxes_of_two_classes_do_not_compete():
    found = detect([(50, 30, 20, 20, 0.8, 0, 0), (50, 30, 20, 20, 0, 0.9, 0)])
    assert [one.label for one in found] == ["bicycle", "person"]


def test_classes_limit_what_is_found():
    rows = [(20, 20, 10, 10, 0.5, 0, 0), (60, 30, 20, 10, 0, 0, 0.9), (40, 50, 8, 8, 0.45, 0.6, 0)]
    assert [one.label for one in detect(rows, classes=("person",))] == ["person"]
    assert [one.label for one in detect(rows, classes=("person", "car"))] == ["car", "person"]


def test_an_unknown_class_is_refused_by_name():
    with pytest.raises(ValueError, match=r"truck.*person, bicycle, car"):
        detect([], classes=("person", "truck"))


def test_boxes_are_cut_at_the_border_of_the_image():
    # A square image in a wide input lies in columns 16..80.
    found = detect([(16, 32, 20, 100, 0.9, 0, 0)], shape=(64, 64, 3))
    assert corners(found[0]) == pytest.approx((0, 0, 10, 64))


def test_boxes_that_lie_in_the_padding_are_dropped():
    assert detect([(7, 32, 10, 10, 0.9, 0, 0)], shape=(64, 64, 3)) == ()


@pytest.mark.parametrize("column", [0, 2, 4, 6])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_single_numbers_that_are_not_finite_cost_only_their_box(column, value):
    rows = np.array([(20, 20, 10, 10, 0.9, 0, 0)] * 2 + [(60, 30, 20, 10, 0, 0, 0.8)], np.float32)
    rows[0, column] = value
    assert [one.label for one in detect(rows)] == ["person", "car"]


def test_a_network_that_returns_no_numbers_is_an_error():
    with pytest.raises(EngineError, match="NaN or infinite"):
        detect([[np.nan] * 7] * 3)


@pytest.mark.parametrize("shape", [(1, 6, 10), (7, 10), (2, 7, 10)])
def test_a_network_of_another_layout_is_an_error(shape):
    detector = BoxDetector(Predicting(predictions=np.zeros(shape, np.float32)), LABELS, (64, 96))
    with pytest.raises(EngineError, match="1 x 7 x N"):
        detector.detect(np.zeros((64, 96, 3), np.uint8))


def test_a_network_that_sees_things_everywhere_is_answered():
    rng = np.random.default_rng(0)
    rows = np.hstack((rng.uniform(5, 60, (20_000, 2)), rng.uniform(1, 30, (20_000, 2)), rng.random((20_000, 3))))
    found = detect(rows)
    scores = [one.score for one in found]
    assert 0 < len(found) <= 1000
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("size", [(0, 64), (64, 100), (-32, 64)])
def test_input_sizes_that_are_no_multiple_of_32_are_refused(size):
    with pytest.raises(ValueError, match="multiples of 32"):
        BoxDetector(Predicting(), LABELS, size)


def test_networks_of_another_kind_are_refused():
    engine = Predicting()
    engine.output_names = ("fused",)
    with pytest.raises(ValueError, match=r"fused.*predictions"):
        BoxDetector(engine, LABELS, (64, 96))
    with pytest.raises(ValueError, match="labels"):
        BoxDetector(Predicting(), (), (64, 96))
