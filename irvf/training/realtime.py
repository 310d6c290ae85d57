"""Train the real-time network: a student of the regulated network, judged by the same task networks.

For people, it is trained on the loss of the image alone, which takes it further than its teacher goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from irvf.frames import Image8, Plane
from irvf.image_fusion import ImageFusion
from irvf.networks.realtime_fusion import RealtimeFusionNetwork
from irvf.training.checkpoint import load_weights
from irvf.training.instructed import (
    center_texts,
    freeze,
    load_training_scenes,
    make_loop,
    parameter_groups,
    run_steps,
)
from irvf.training.instruction_embeddings import Instructions
from irvf.training.loop import StepLoss
from irvf.training.pair_windows import PairBatch, WindowPhase, check_windows, cut_windows
from irvf.training.processes import process_rank, step_generator
from irvf.training.scenes import Annotation, Scene
from irvf.training.task_losses import TermWeights, check_weights, task_loss
from irvf.training.task_networks import TaskNetworks
from irvf.training.windows import Placement


@dataclass(frozen=True)
class RealtimeTrainingConfig:
    """All that decides the result of a training."""

    annotation: Annotation = field(default_factory=Annotation)
    labelled: str = "msrs"  # data set of the task losses
    datasets: tuple[str, ...] = ()  # of viewing, which needs no labels; empty takes all
    first_held: dict[str, str] = field(default_factory=dict)  # data set -> first held-back name
    channels: int = 16
    blocks: int = 5
    teacher: str = "irvf"  # model folder
    detector: str = "detector"  # model folders of the task networks
    segmentation: str = "segmentation"
    saliency: str = "saliency"
    text_encoder: str = "sentence-encoder"
    order: tuple[str, ...] = (
        *("viewing", "detection", "viewing", "saliency"),
        *("viewing", "detection", "viewing", "segmentation"),
    )
    # The reference of a task is the teacher's image under its instruction; viewing has none.
    weights: dict[str, TermWeights] = field(
        default_factory=lambda: {
            "detection": TermWeights(0.5, (8.0, 4.0), {"saliency": 0.5}),
            "segmentation": TermWeights(1.0, (8.0, 4.0)),
            "saliency": TermWeights(1.0, (8.0, 4.0)),
            "viewing": TermWeights(1.0, (0.0, 0.0)),
        }
    )
    brightness_weight: float = 0.5  # lambda of Eq. 5
    windows: tuple[WindowPhase, ...] = (WindowPhase(1.0, (160, 160), 8),)
    scales: tuple[float, float] = (0.6, 1.8)  # wide: images differ in sharpness, too
    viewing_gamma: tuple[float, float] = (0.8, 1.25)  # exponents of the thermal levels: cameras differ in range control
    steps: int = 9000
    learning_rate: float = 2e-3
    linear_factor: float = 0.5  # of the learning rate, for the linear layers of adapter and predictors
    warm_up_steps: int = 100
    average_decay: float = 0.998  # of the exponential moving average of the weights
    max_gradient_norm: float = 1.0
    skip_unusable: bool = False  # pairs or labels that cannot be read, and images alone; else they are refused
    seed: int = 0
    save_every: int = 250

    def __post_init__(self) -> None:
        """Refuse unknown tasks.

        Raises:
            ValueError: see :func:`irvf.training.task_losses.check_weights`; no windows, or a reference for viewing.
        """
        check_windows(self.windows)
        check_weights(self.order, self.weights)
        if "viewing" in self.weights and any(self.weights["viewing"].reference):
            raise ValueError("viewing has no teacher here: the weights of its reference must be zero")


def evened(scenes: Sequence[Scene]) -> list[Scene]:
    """Repeat the scenes of small data sets, so that each set is drawn from about equally often."""
    sets = [scene.name.split("/")[0] for scene in scenes]
    counts = Counter(sets)
    most = max(counts.values())
    return [scene for scene, name in zip(scenes, sets, strict=True) for _ in range(round(most / counts[name]))]


def teach(scenes: Sequence[Scene], teacher: Mapping[str, ImageFusion], folder: Path) -> dict[str, list[Image8]]:
    """Return the teacher's images of whole scenes by task, luma ``[H x W]``; those that lie in the folder are read.

    Args:
        scenes: to fuse.
        teacher: fusion under the instruction of each task.
        folder: keeps them, so that a resumed training does not wait for them again.
    """
    taught: dict[str, list[Image8]] = {task: [] for task in teacher}
    for scene in tqdm(scenes, desc="teacher", unit="pair"):
        for task, fuse in teacher.items():
            path = folder / task / f"{scene.name}.png"
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
            if image is None or image.shape != scene.thermal.shape:
                image = cv2.cvtColor(fuse(scene.thermal, scene.rgb), cv2.COLOR_RGB2GRAY)
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = path.with_name(f"{path.stem}.{process_rank()}.part.png")  # several processes may be at it
                if not cv2.imwrite(str(unfinished), image):
                    raise OSError(f"{unfinished} cannot be written; is the disk full?")
                unfinished.replace(path)
            taught[task].append(np.asarray(image, np.uint8))
    return taught


def train_realtime(
    data: Path,
    output: Path,
    config: RealtimeTrainingConfig,
    *,
    teacher: Mapping[str, ImageFusion],
    teacher_digest: str,
    networks: TaskNetworks,
    instructions: Instructions,
    device: str = "cpu",
    initial: Path | None = None,
) -> RealtimeFusionNetwork:
    """Train, resuming from ``output/checkpoint.safetensors`` when it is there.

    Args:
        data: folder of pairs as :func:`irvf.training.data.find_pairs` takes it.
        output: folder for the checkpoint, the log and the teacher's images; made if missing.
        config: what to train.
        teacher: fusion under the instruction of each task but viewing.
        teacher_digest: tells teachers apart: the images of another one are not taken.
        networks: of the tasks; frozen here.
        instructions: embeddings of the wordings that are trained on.
        device: torch device.
        initial: weights of a model folder to start from; None starts from nothing.

    Returns:
        The averaged network, in evaluation mode.

    Raises:
        ValueError: unusable data, a checkpoint of another configuration, or a teacher that lacks a task.
        OSError: the teacher's images cannot be written.
        FloatingPointError: the loss became not finite; the last checkpoint is kept.
    """
    untaught = sorted(task for task in config.order if any(config.weights[task].reference) and task not in teacher)
    if untaught:
        raise ValueError(f"the teacher has no images for {', '.join(untaught)}, whose reference has a weight")
    torch.manual_seed(config.seed)
    training, labelled, everything = load_training_scenes(data, config)
    everything = evened(everything)
    taught = teach(labelled, teacher, output / f"teacher-{teacher_digest}")
    where = torch.device(device)
    network, average = (
        RealtimeFusionNetwork(instructions.width, config.channels, config.blocks).to(where) for _ in range(2)
    )
    frozen = (networks.detection, networks.segmentation, networks.saliency)
    freeze(frozen, where)
    if initial is None:
        center_texts(network.regulation.adapter, instructions.centroids())
    else:
        load_weights(network, initial)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(parameter_groups(network, config.linear_factor), lr=config.learning_rate)

    def sample(task: str, step: int) -> tuple[PairBatch, Tensor]:
        def reference(number: int, placement: Placement, thermal: Plane, _luma: Plane) -> Plane:
            if task not in taught:
                return thermal  # its weight is zero: no distance to it counts
            window: Plane = placement.cut(taught[task][number], border=0) / np.float32(255)
            return window

        batch = cut_windows(
            everything if task == "viewing" else labelled,
            next((phase for phase in config.windows if step < phase.until * config.steps), config.windows[-1]),
            scales=config.scales,
            # The teacher saw the images as they are.
            thermal_gamma=config.viewing_gamma if task == "viewing" else (1.0, 1.0),
            reference=reference,
            rng=step_generator(config.seed, step),
            device=where,
        )
        drawn = instructions.draw(task, len(batch.thermal), step_generator(config.seed + 1, step))
        return batch, torch.from_numpy(drawn).to(where)

    def loss_of(step: int) -> StepLoss:
        task = config.order[step % len(config.order)]
        batch, embeddings = sample(task, step)
        loss = task_loss(
            task,
            network(batch.thermal, batch.luma, embeddings),
            batch,
            networks,
            config.weights[task],
            brightness_weight=config.brightness_weight,
            progress=step / config.steps,
        )
        return StepLoss(loss, batch.names, task)

    loop = make_loop(
        "realtime",
        output,
        config,
        pairs=training,
        initial=initial,
        frozen=frozen,
        texts=f"{instructions.digest()} {teacher_digest}",
    )
    run_steps(loop, config, {"network": network, "average": average}, optimizer, loss_of)
    return average.eval()
