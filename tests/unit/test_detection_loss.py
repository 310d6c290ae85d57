"""Detection loss: overlaps by hand, who answers for an object, and that less loss means better boxes."""

import pytest
import torch

from irvf.networks.box_detector import Predictions
from irvf.training.detection_loss import POINTS_PER_OBJECT, Targets, assign, detection_loss, pairwise_overlap

NOWHERE = torch.empty(0, 4)


def objects(boxes, labels, ignored=NOWHERE):
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.long), ignored
    )


def grid(side=64, stride=8.0):
    """Points of one level, row by row."""
    centers = torch.arange(stride / 2, side, stride)
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    points = torch.stack((x, y), -1).reshape(-1, 2)
    return points, torch.full((len(points),), stride)


def predictions(box, logit=0.0, classes=2):
    """Every point predicts the same."""
    points, strides = grid()
    boxes = torch.tensor(box, dtype=torch.float32).expand(1, len(points), 4).clone()
    logits = torch.full((1, len(points), classes), float(logit))
    return Predictions(logits.requires_grad_(), boxes.requires_grad_(), points, strides)


@pytest.mark.parametrize(
    ("first", "second", "iou", "generalised"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1, 1),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
        ((0, 0, 1, 1), (2, 0, 3, 1), 0, -1 / 3),
        ((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4, 1 / 4),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0, 0),
    ],
    ids=["same", "corner", "apart", "inside", "touching"],
)
def test_overlap_by_hand(first, second, iou, generalised):
    found = pairwise_overlap(torch.tensor(first, dtype=torch.float32), torch.tensor(second, dtype=torch.float32))
    assert found[0].item() == pytest.approx(iou)
    assert found[1].item() == pytest.approx(generalised)


def test_an_object_is_answered_for_by_points_inside_it():
    box = (21.0, 13.0, 51.0, 59.0)
    points, strides = grid()
    boxes = torch.tensor(box).expand(len(points), 4)
    soft, assigned = assign(torch.full((len(points), 2), 0.5), boxes, points, strides, objects([box], [1]))
    mine = points[assigned == 0]
    assert len(mine) == POINTS_PER_OBJECT
    assert (mine[:, 0] > box[0]).all()
    assert (mine[:, 0] < box[2]).all()
    assert (mine[:, 1] > box[1]).all()
    assert (mine[:, 1] < box[3]).all()
    assert not soft[:, 0].any()
    assert not soft[assigned < 0].any()
    # The best target is the overlap of the best box, which is perfect here.
    assert soft[:, 1].max().item() == pytest.approx(1)


def test_points_with_better_boxes_answer():
    box = (0.0, 0.0, 64.0, 64.0)
    points, strides = grid()
    boxes = torch.tensor((0.0, 0.0, 32.0, 64.0)).repeat(len(points), 1)
    good = torch.arange(20, 20 + POINTS_PER_OBJECT)
    boxes[good] = torch.tensor(box)
    _, assigned = assign(torch.full((len(points), 1), 0.5), boxes, points, strides, objects([box], [0]))
    assert torch.equal(torch.nonzero(assigned == 0)[:, 0], good)


@pytest.mark.parametrize("box", [(30.0, 30.0, 33.0, 33.0), (31.5, 31.5, 32.5, 32.5)], ids=["beside", "on a corner"])
def test_an_object_smaller_than_a_cell_is_answered_for_before_anything_overlaps(box):
    points, strides = grid()
    boxes = torch.tensor((0.0, 0.0, 1.0, 1.0)).repeat(len(points), 1)
    _, assigned = assign(torch.full((len(points), 1), 0.01), boxes, points, strides, objects([box], [0]))
    nearest = (points[assigned == 0] - torch.tensor((32.0, 32.0))).abs()
    assert len(nearest)
    assert nearest.max() <= 8


def test_of_two_objects_at_a_place_each_gets_points():
    large, small = (0.0, 0.0, 64.0, 64.0), (20.0, 20.0, 44.0, 44.0)
    points, strides = grid()
    boxes = torch.tensor(large).repeat(len(points), 1)
    inside = ((points - 32).abs() < 12).all(1)
    boxes[inside] = torch.tensor(small)
    scores = torch.full((len(points), 1), 0.5)
    _, assigned = assign(scores, boxes, points, strides, objects([large, small], [0, 0]))
    assert (assigned[inside] == 1).all()
    assert (assigned == 0).any()
    assert not (assigned[inside] == 0).any()


def test_nothing_is_held_against_ignored_regions():
    ignored = torch.tensor([[0.0, 0.0, 32.0, 64.0]])
    found = predictions((0, 0, 8, 8))
    detection_loss(found, [objects([], [], ignored)]).backward()
    left = found.points[:, 0] < 32
    assert not found.logits.grad[0, left].any()
    assert (found.logits.grad[0, ~left] > 0).all()


def test_an_object_in_an_ignored_region_is_asked_for_all_the_same():
    box = (8.0, 8.0, 24.0, 24.0)
    ignored = torch.tensor([[0.0, 0.0, 32.0, 64.0]])
    found = predictions(box, logit=-3)
    detection_loss(found, [objects([box], [1], ignored)]).backward()
    inside = ((found.points - 16).abs() < 8).all(1)
    assert (found.logits.grad[0, inside, 1] < 0).all()


def test_better_boxes_cost_less():
    box = (16.0, 16.0, 48.0, 48.0)
    worse = [(16.0, 16.0 + shift, 48.0, 48.0 + shift) for shift in (0, 4, 8, 16, 32)]
    losses = [detection_loss(predictions(entry, -2), [objects([box], [0])]).item() for entry in worse]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_scores_of_the_right_class_cost_less():
    box = (16.0, 16.0, 48.0, 48.0)

    def loss(label):
        found = predictions(box, -5)
        inside = ((found.points - 32).abs() < 16).all(1)
        with torch.no_grad():
            found.logits[0, inside, label] = 2.0
        return detection_loss(found, [objects([box], [0])]).item()

    assert loss(0) < loss(1)


def test_an_image_without_objects_asks_for_silence():
    losses = [detection_loss(predictions((0, 0, 8, 8), logit), [objects([], [])]).item() for logit in (-8, -2, 2)]
    assert losses == sorted(losses)
    assert losses[0] < 0.1
