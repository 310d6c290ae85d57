"""Average precision of cases that can be worked out by hand, by COCO's rule of 101 recall levels."""

import numpy as np
import pytest

from irvf.frames import Box, Detection

pytest.importorskip("pycocotools", reason="irvf evaluate detector needs pycocotools")

from irvf.evaluation.average_precision import Truth, average_precision

LABELS = ("person", "car")
FIRST, SECOND = (10.0, 10.0, 30.0, 50.0), (60.0, 20.0, 100.0, 60.0)


def truth(*entries):
    boxes = np.array([box for box, _ in entries], np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([label for _, label in entries], np.int64))


def seen(box, score, label="person"):
    return Detection(Box(*box), label, score)


def test_all_found_is_one():
    result = average_precision([[seen(FIRST, 0.9), seen(SECOND, 0.8, "car")]], [truth((FIRST, 0), (SECOND, 1))], LABELS)
    assert result.at_50 == pytest.approx(1)
    assert result.at_50_95 == pytest.approx(1)
    assert result.by_class == {"person": pytest.approx(1), "car": pytest.approx(1)}


@pytest.mark.parametrize(
    "found",
    [[], [seen((200, 200, 220, 240), 0.9)], [seen(FIRST, 0.9, "car")]],
    ids=["nothing", "elsewhere", "another class"],
)
def test_nothing_found_is_zero(found):
    result = average_precision([found], [truth((FIRST, 0))], LABELS)
    assert result.at_50 == result.at_50_95 == 0
    assert result.by_class == {"person": 0}


def test_one_of_two_found_fills_the_recall_levels_up_to_a_half():
    result = average_precision([[seen(FIRST, 0.9)]], [truth((FIRST, 0), (SECOND, 0))], LABELS)
    assert result.at_50 == pytest.approx(51 / 101)  # 0, 0.01 .. 0.50


def test_a_false_alarm_that_is_surer_halves_precision():
    found = [seen((200, 200, 220, 240), 0.9), seen(FIRST, 0.5)]
    assert average_precision([found], [truth((FIRST, 0))], LABELS).at_50 == pytest.approx(1 / 2)


def test_a_false_alarm_that_is_less_sure_costs_nothing():
    found = [seen((200, 200, 220, 240), 0.4), seen(FIRST, 0.5)]
    assert average_precision([found], [truth((FIRST, 0))], LABELS).at_50 == pytest.approx(1)


def test_a_box_found_twice_counts_once():
    found = [seen(FIRST, 0.9), seen(FIRST, 0.8), seen(SECOND, 0.7)]
    # Precision 1 up to recall 0.5, then 2 / 3.
    expected = (51 + 50 * 2 / 3) / 101
    assert average_precision([found], [truth((FIRST, 0), (SECOND, 0))], LABELS).at_50 == pytest.approx(expected)


def test_a_loose_box_passes_the_low_thresholds_only():
    # A box of 20 x 40 against its upper 20 x 31: IoU 0.775 passes 0.5, 0.55 .. 0.75, six of ten thresholds.
    loose = (10.0, 10.0, 30.0, 41.0)
    result = average_precision([[seen(loose, 0.9)]], [truth((FIRST, 0))], LABELS)
    assert result.at_50 == pytest.approx(1)
    assert result.at_50_95 == pytest.approx(0.6)


def test_images_are_kept_apart():
    result = average_precision([[], [seen(FIRST, 0.9)]], [truth((FIRST, 0)), truth()], LABELS)
    assert result.at_50 == 0


def test_nothing_labelled_is_refused():
    with pytest.raises(ValueError, match="no labelled objects"):
        average_precision([[]], [truth()], LABELS)
