"""Training windows of thermal / RGB pairs with their labels, as stage 2 takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irvf.frames import Plane
from irvf.imaging.classical_fusion import Fusion
from irvf.training.detection_loss import Targets
from irvf.training.image_quality import LEAST_SIDE
from irvf.training.pseudo_labels import IGNORED
from irvf.training.scenes import Scene
from irvf.training.windows import VISIBLE_SHARE, Placement, place_window


@dataclass(frozen=True)
class WindowPhase:
    """A stretch of the training with one window size."""

    until: float  # share of all steps at which the phase ends, 0..1
    size: tuple[int, int]  # height and width of the windows in pixels, multiples of 32
    batch: int  # windows a step


def check_windows(windows: Sequence[WindowPhase]) -> None:
    """Refuse windows that a training cannot use.

    Raises:
        ValueError: none, or sides that are no multiples of 32 or too small for the metrics that are trained on.
    """
    if not windows:
        raise ValueError("windows must have at least one phase")
    for phase in windows:
        if min(phase.size) < LEAST_SIDE or any(side % 32 for side in phase.size):
            raise ValueError(f"sides of windows must be multiples of 32 and at least {LEAST_SIDE}, not {phase.size}")


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Windows of pairs with what is known of them.

    Attributes:
        thermal: ``[B x 1 x H x W]`` in 0..1.
        luma: as ``thermal``.
        chroma: red and blue difference, ``[B x 2 x H x W]`` in -0.5..0.5.
        reference: luma that the fused windows are compared with, as ``thermal``.
        targets: objects of each window.
        semantic: pseudo-labels ``[B x H x W]`` int64.
        saliency: as ``semantic``.
        names: of the pairs.
    """

    thermal: Tensor
    luma: Tensor
    chroma: Tensor
    reference: Tensor
    targets: list[Targets]
    semantic: Tensor
    saliency: Tensor
    names: tuple[str, ...]


Reference = Callable[[int, Placement, Plane, Plane], Plane]
"""Returns what a window is compared with: of the scene's number, the placement, and the thermal and luma window."""


def fused_reference(fusion: Fusion) -> Reference:
    """Return a reference that fuses the windows as they are."""
    return lambda _number, _placement, thermal, luma: fusion(thermal, luma)


def merge_chroma(luma: Tensor, chroma: Tensor) -> Tensor:
    """Return RGB ``[B x 3 x H x W]`` in 0..1 of a luma plane and chroma, by ITU-R BT.601 in full range."""
    red, blue = chroma[:, :1], chroma[:, 1:]
    rgb = torch.cat((luma + 1.402 * red, luma - 0.714136 * red - 0.344136 * blue, luma + 1.772 * blue), dim=1)
    return rgb.clamp(0, 1)


def _split_chroma(rgb: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Split RGB ``[H x W x 3]`` in 0..1 into luma ``[H x W]`` and chroma ``[2 x H x W]``, see :func:`merge_chroma`."""
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    return luma, np.stack(((rgb[..., 0] - luma) / np.float32(1.402), (rgb[..., 2] - luma) / np.float32(1.772)))


def _targets(scene: Scene, placement: Placement, device: torch.device) -> Targets:
    objects = scene.objects
    boxes, shown = placement.move(objects.boxes)
    doubtful, doubtful_shown = placement.move(objects.doubtful)
    kept = shown >= VISIBLE_SHARE
    ignored = np.concatenate((boxes[(shown > 0) & ~kept], doubtful[doubtful_shown > 0]))
    return Targets(*(torch.from_numpy(array).to(device) for array in (boxes[kept], objects.labels[kept], ignored)))


def cut_windows(
    scenes: Sequence[Scene],
    windows: WindowPhase,
    *,
    scales: tuple[float, float],
    thermal_gamma: tuple[float, float],
    reference: Reference,
    rng: np.random.Generator,
    device: torch.device,
) -> PairBatch:
    """Cut random windows of random scenes.

    Args:
        scenes: to choose from.
        windows: size and number.
        scales: lowest and highest scale of the image.
        thermal_gamma: lowest and highest exponent of the thermal levels.
        reference: of the windows.
        rng: source of all randomness.
        device: of the tensors.
    """
    cut: list[tuple[NDArray[Any], ...]] = []
    targets, names = [], []
    for choice in rng.integers(len(scenes), size=windows.batch):
        scene = scenes[choice]
        placement = place_window(
            (scene.thermal.shape[0], scene.thermal.shape[1]),
            scene.objects.boxes,
            scene.objects.labels,
            window_size=windows.size,
            scales=scales,
            rng=rng,
        )
        thermal = (placement.cut(scene.thermal, border=0) / np.float32(255)) ** rng.uniform(*thermal_gamma)
        luma, chroma = _split_chroma(placement.cut(scene.rgb, border=0) / np.float32(255))
        masks = (placement.cut(mask, border=IGNORED, mask=True) for mask in (scene.semantic, scene.saliency))
        compared = reference(int(choice), placement, thermal.astype(np.float32), luma)
        cut.append((thermal[None], luma[None], chroma, compared[None], *masks))
        targets.append(_targets(scene, placement, device))
        names.append(scene.name)
    stacked = [torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*cut, strict=True)]
    planes = [plane.float().contiguous(memory_format=torch.channels_last) for plane in stacked[:4]]
    return PairBatch(
        thermal=planes[0],
        luma=planes[1],
        chroma=planes[2],
        reference=planes[3],
        targets=targets,
        semantic=stacked[4].long(),
        saliency=stacked[5].long(),
        names=tuple(names),
    )
