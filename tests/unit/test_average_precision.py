"""Average precision of cases that can be worked out by hand, by COCO's rule of 101 recall levels."""

import numpy as np
import pytest

from irvf.frames import Box, Detection

pytest.importorskip("pycocotools", reason="irvf evaluate needs pycocotools")

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from irvf.evaluation.average_precision import Truth, average_precision, match_detections, precision_statistics
from irvf.evaluation.bootstrap import draw_resamples

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
    assert result.at_75 == pytest.approx(1)
    assert result.at_50_95 == pytest.approx(0.6)
    looser = average_precision([[seen((10.0, 10.0, 30.0, 39.0), 0.9)]], [truth((FIRST, 0))], LABELS)  # IoU 0.725
    assert (looser.at_50, looser.at_75) == (pytest.approx(1), 0)


def test_images_are_kept_apart():
    result = average_precision([[], [seen(FIRST, 0.9)]], [truth((FIRST, 0)), truth()], LABELS)
    assert result.at_50 == 0


def test_nothing_labelled_is_refused():
    with pytest.raises(ValueError, match="no labelled objects"):
        average_precision([[]], [truth()], LABELS)


def random_images(count, seed):
    """Objects and detections of crowded images: loose, missed, invented, doubled, of the wrong class."""
    rng = np.random.default_rng(seed)
    found, labelled = [], []
    for _ in range(count):
        corners = rng.uniform(0, 80, (int(rng.integers(0, 6)), 2))
        boxes = np.hstack((corners, corners + rng.uniform(20, 40, corners.shape)))
        labels = rng.integers(0, 2, len(boxes))
        labelled.append(Truth(boxes.astype(np.float32), labels))
        entries = []
        for box, label in zip(boxes, labels, strict=True):
            for _ in range(int(rng.integers(0, 3))):
                guess = int(label) if rng.random() < 0.8 else 1 - int(label)
                entries.append(seen(tuple(box + rng.normal(0, 3, 4)), float(rng.random()), LABELS[guess]))
        for _ in range(int(rng.integers(0, 3))):
            corner = rng.uniform(0, 80, 2)
            entries.append(seen((*corner, *(corner + 15)), float(rng.random()) * 0.7))
        found.append(entries)
    return found, labelled


def coco(found, labelled):
    """The six figures that pycocotools itself gives; the first three are mAP50-95, mAP50 and mAP75."""
    annotations, results = [], []
    for index, (image, entries) in enumerate(zip(labelled, found, strict=True)):
        for (x0, y0, x1, y1), label in zip(image.boxes.tolist(), image.labels.tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": index, "category_id": label, **box})
        for entry in entries:
            corners = entry.box
            box = [corners.x_min, corners.y_min, corners.width, corners.height]
            category = LABELS.index(entry.label)
            results.append({"image_id": index, "category_id": category, "bbox": box, "score": entry.score})
    truth_set = COCO()
    truth_set.dataset = {
        "images": [{"id": index} for index in range(len(labelled))],
        "annotations": annotations,
        "categories": [{"id": 0, "name": "person"}, {"id": 1, "name": "car"}],
    }
    truth_set.createIndex()
    evaluation = COCOeval(truth_set, truth_set.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_pycocotools(seed):
    found, labelled = random_images(12, seed)
    expected = coco(found, labelled)
    result = average_precision(found, labelled, LABELS)
    assert 0.05 < expected[0] < 0.9
    assert (result.at_50_95, result.at_50, result.at_75) == pytest.approx(tuple(expected[:3]), abs=1e-9)
    plain = precision_statistics(match_detections(found, labelled, LABELS), draw_resamples(12, 2))
    assert [plain[name].value for name in ("mAP50-95", "mAP50", "mAP75")] == pytest.approx(list(expected[:3]), abs=1e-9)


def test_resamples_are_what_pycocotools_gives_for_repeated_images():
    found, labelled = random_images(10, 7)
    draws = draw_resamples(10, 6, seed=5)
    statistics = precision_statistics(match_detections(found, labelled, LABELS), draws)
    for index, counts in enumerate(draws):
        drawn = np.repeat(np.arange(10), counts)
        expected = coco([found[k] for k in drawn], [labelled[k] for k in drawn])
        got = [statistics[name].resampled[index] for name in ("mAP50-95", "mAP50", "mAP75")]
        assert got == pytest.approx(list(expected[:3]), abs=1e-9)


def test_equal_rows_differ_by_nothing_and_better_ones_by_more():
    found, labelled = random_images(20, 3)
    draws = draw_resamples(20, 200)
    base = precision_statistics(match_detections(found, labelled, LABELS), draws)["mAP50-95"]
    again = precision_statistics(match_detections(found, labelled, LABELS), draws)["mAP50-95"]
    assert again.minus(base).interval == (0, 0)
    ideal = [
        [seen(tuple(b), 0.9, LABELS[c]) for b, c in zip(i.boxes.tolist(), i.labels, strict=True)] for i in labelled
    ]
    best = precision_statistics(match_detections(ideal, labelled, LABELS), draws)["mAP50-95"]
    assert best.value == pytest.approx(1)
    assert best.minus(base).interval[0] > 0.1


def test_figures_of_classes():
    found, labelled = [[seen(FIRST, 0.9)]], [truth((FIRST, 0), (SECOND, 1))]
    statistics = precision_statistics(match_detections(found, labelled, (*LABELS, "bicycle")), draw_resamples(1, 3))
    assert statistics["AP50-95 person"].value == pytest.approx(1)
    assert statistics["AP50-95 car"].value == 0
    assert "AP50-95 bicycle" not in statistics
    assert statistics["mAP50"].value == pytest.approx(0.5)


def test_a_resample_without_objects_has_no_figure():
    found, labelled = [[seen(FIRST, 0.9)], []], [truth((FIRST, 0)), truth()]
    statistics = precision_statistics(match_detections(found, labelled, LABELS), np.array([[2, 0], [0, 2]]))
    np.testing.assert_allclose(statistics["mAP50"].resampled, [1, np.nan])
