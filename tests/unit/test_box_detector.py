"""The detector network: where its points lie, what it returns, and that it learns to find an object."""

import pytest
import torch

from irvf.networks.box_detector import BoxDetectorNetwork, DeployedBoxDetector
from irvf.training.detection_loss import Targets, detection_loss, pairwise_overlap

SMALL = {"head_width": 16}


@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_every_cell_of_three_levels_has_a_point_in_its_middle(size):
    found = BoxDetectorNetwork(3, **SMALL).eval()(torch.zeros(2, 3, *size))
    expected = [
        (column * stride + stride / 2, row * stride + stride / 2)
        for stride in (8, 16, 32)
        for row in range(size[0] // stride)
        for column in range(size[1] // stride)
    ]
    assert found.points.tolist() == [list(point) for point in expected]
    assert found.logits.shape == (2, len(expected), 3)
    assert found.boxes.shape == (2, len(expected), 4)
    assert found.strides.tolist() == [s for s in (8, 16, 32) for _ in range(size[0] // s * (size[1] // s))]


def test_boxes_lie_around_their_points_and_scores_start_low():
    torch.manual_seed(0)
    found = BoxDetectorNetwork(3, **SMALL).eval()(torch.rand(1, 3, 64, 64))
    assert (found.boxes[0, :, :2] < found.points).all()
    assert (found.boxes[0, :, 2:] > found.points).all()
    assert found.logits.sigmoid().mean() < 0.05


def test_the_deployed_form_gives_centre_size_and_scores():
    torch.manual_seed(0)
    network = BoxDetectorNetwork(2, **SMALL).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, deployed = network(image), DeployedBoxDetector(network)(image)
    assert deployed.shape == (1, 6, found.points.shape[0])
    center, size = deployed[0, :2].T, deployed[0, 2:4].T
    torch.testing.assert_close(torch.cat((center - size / 2, center + size / 2), 1), found.boxes[0])
    torch.testing.assert_close(deployed[0, 4:].T, found.logits[0].sigmoid())


def test_learns_to_find_an_object():
    torch.manual_seed(0)
    box = torch.tensor([[8.0, 16.0, 32.0, 56.0]])
    image = torch.zeros(1, 3, 64, 64)
    image[:, 0, 16:56, 8:32] = 1
    mirrored = torch.tensor([[32.0, 16.0, 56.0, 56.0]])
    images = torch.cat((image, image.flip(3)))
    targets = [Targets(entry, torch.tensor([1]), torch.empty(0, 4)) for entry in (box, mirrored)]
    network = BoxDetectorNetwork(2, **SMALL)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(100):
        loss = detection_loss(network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(image)
    scores = found.logits[0].sigmoid()
    best = scores.max(1).values.argmax()
    assert scores[best].argmax() == 1
    assert scores[best, 1] > 0.3
    assert pairwise_overlap(found.boxes[0, best], box[0])[0] > 0.7
