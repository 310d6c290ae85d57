import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

# Threads of tiny networks only wait for each other, and for whatever else runs on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _scene(rng, height, width):
    """A dark street with a warm block that RGB hardly shows, and a coloured block that thermal does not."""
    rgb = np.full((height, width, 3), (60, 80, 70), np.int16) + rng.integers(-8, 9, (height, width, 1))
    rgb[height // 4 : height // 2, width // 8 : width // 3] = (150, 60, 40)
    thermal = np.full((height, width), 40, np.int16) + rng.integers(-4, 5, (height, width))
    thermal[height // 3 : height * 3 // 4, width // 2 : width * 3 // 4] = 220
    return thermal.astype(np.uint8), rgb.astype(np.uint8)


@pytest.fixture(scope="session")
def scene():
    """Return a function that renders thermal ``[H x W]`` and RGB ``[H x W x 3]``, uint8."""

    def render(height=48, width=64, seed=0):
        return _scene(np.random.default_rng(seed), height, width)

    return render


def _write_pairs(root, names, dataset, size):
    for index, name in enumerate(names):
        thermal, rgb = _scene(np.random.default_rng(index), *size)
        for kind, image in (("thermal", thermal), ("rgb", rgb[..., ::-1])):
            folder = root / dataset / kind
            folder.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / f"{name}.png"), image)
    return root


@pytest.fixture
def pair_folder(tmp_path):
    """Return a function that writes SET/thermal/NAME.png and SET/rgb/NAME.png and returns their root."""

    def write(names=("a", "b", "c"), dataset="street", size=(48, 64), root=tmp_path / "pairs"):
        return _write_pairs(root, names, dataset, size)

    return write


@pytest.fixture(scope="session")
def scene_pairs(tmp_path_factory):
    """Root of three pairs that no test changes."""
    return _write_pairs(tmp_path_factory.mktemp("scenes"), ("a", "b", "c"), "street", (48, 64))


WARM_BLOCK = "0.625 0.5417 0.25 0.4167"
"""Where the warm block of a 48 x 64 scene lies, as a line of a label file has it."""


@pytest.fixture
def labelled_folder(pair_folder):
    """Return a function that writes pairs as ``pair_folder`` does, with a box around each warm block."""

    def write(names=("a", "b", "c"), dataset="street", label=0, boxes="boxes_fusion"):
        root = pair_folder(names, dataset)
        for name in names:
            file = root / dataset / boxes / f"{name}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"{label} {WARM_BLOCK}\n", "utf-8")
        return root

    return write


def _lively(network, *inputs):
    """Make a random network answer to its inputs as a trained one does: no weights at zero, features of unit size."""
    import torch  # noqa: PLC0415  (most tests run without)

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(3)
            elif isinstance(module, torch.nn.Conv2d) and not module.weight.any():
                torch.nn.init.normal_(module.weight, 0, 0.5, generator=generator)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the statistics of the one batch
        network.train()(*inputs)
    return network.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Networks with random weights, and the model folders that they were exported to."""
    import torch  # noqa: PLC0415

    from irvf.networks.base_fusion import BaseFusionNetwork  # noqa: PLC0415
    from irvf.networks.box_detector import BoxDetectorNetwork  # noqa: PLC0415
    from irvf.networks.salient_object import SaliencyNetwork  # noqa: PLC0415
    from irvf.networks.segmentation_unet import SegmentationNetwork  # noqa: PLC0415
    from irvf.networks.task_regulation import RegulatedFusionNetwork, TaskOrientedRegulation  # noqa: PLC0415
    from irvf.training import export  # noqa: PLC0415

    torch.manual_seed(0)
    root, labels, size = tmp_path_factory.mktemp("exported"), ("person", "bicycle", "car"), (64, 96)
    texts = np.random.default_rng(0).normal(size=(2, 24)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    centroids = dict(zip(("detection", "viewing"), texts, strict=True))
    images, planes = torch.rand(2, 3, 64, 96), torch.rand(2, 2, 1, 64, 96)
    detector, segmentation, saliency = (
        _lively(network, images) for network in (BoxDetectorNetwork(3), SegmentationNetwork(4), SaliencyNetwork())
    )
    base = _lively(BaseFusionNetwork(4, 2), *planes)
    regulated = RegulatedFusionNetwork(base, TaskOrientedRegulation(24, 4, 2))
    regulated = _lively(regulated, *planes, torch.from_numpy(texts))
    export.export_base(base, root / "base")
    export.export_detector(detector, root / "detector", labels, size)
    export.export_segmentation(segmentation, root / "segmentation", labels, size)
    export.export_saliency(saliency, root / "saliency", size)
    export.export_regulated(regulated, root / "regulated", centroids, "sentence-encoder")
    return SimpleNamespace(
        root=root, base=base, detector=detector, segmentation=segmentation, saliency=saliency, regulated=regulated,
        centroids=centroids, labels=labels, input_size=size,
    )  # fmt: skip
