"""The frozen task networks of stage 2, and the configuration that all three are trained under."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from irvf.models import load_model
from irvf.networks.box_detector import BoxDetectorNetwork
from irvf.networks.salient_object import SaliencyNetwork
from irvf.networks.segmentation_unet import SegmentationNetwork
from irvf.training.checkpoint import load_weights
from irvf.training.detector import DetectorTrainingConfig
from irvf.training.masks import MaskTrainingConfig


@dataclass(frozen=True)
class TasksTrainingConfig:
    """One section for each task network."""

    detection: DetectorTrainingConfig = field(default_factory=DetectorTrainingConfig)
    segmentation: MaskTrainingConfig = field(default_factory=MaskTrainingConfig)
    saliency: MaskTrainingConfig = field(default_factory=MaskTrainingConfig)


@dataclass(frozen=True, eq=False)
class TaskNetworks:
    """Frozen networks that the fused image is judged by: RGB ``[B x 3 x H x W]`` in 0..1 in, their predictions out."""

    detection: nn.Module
    segmentation: nn.Module
    saliency: nn.Module


def load_task_networks(detector: str, segmentation: str, saliency: str, classes: int) -> TaskNetworks:
    """Load the weights of three model folders.

    Args:
        detector: name or path of a model folder of that kind.
        segmentation: as before.
        saliency: as before.
        classes: number of classes without the background.

    Raises:
        ValueError: a folder is missing, or holds the weights of another network.
    """
    networks = {
        "detector": (detector, BoxDetectorNetwork(classes)),
        "segmentation": (segmentation, SegmentationNetwork(classes + 1)),
        "saliency": (saliency, SaliencyNetwork()),
    }
    for kind, (name, network) in networks.items():
        load_weights(network, load_model(name, kind).path / f"{kind}.safetensors")
    return TaskNetworks(*(network for _, network in networks.values()))
