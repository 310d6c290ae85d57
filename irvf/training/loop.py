"""The loop that every training runs in: resumable, with progress and curves, stopping at a loss that is not finite."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from irvf.training.checkpoint import Settings, load_checkpoint, save_checkpoint
from irvf.training.data import PairFiles
from irvf.training.processes import average_gradients, average_statistics, process_rank

_SMOOTHING = 0.98


@dataclass(frozen=True)
class StepLoss:
    """What a step is trained on.

    Attributes:
        loss: a scalar with a gradient.
        batch: the images it was computed on, by name.
        curve: which curve it belongs to; trainings of several tasks have one for each.
    """

    loss: Tensor
    batch: tuple[str, ...]
    curve: str = "loss"


@dataclass(frozen=True)
class Loop:
    """How long a training runs, and what it leaves in its folder.

    Attributes:
        name: shown beside the progress bar.
        output: folder of ``checkpoint.safetensors``, ``log.csv`` (step, curve, smoothed loss) and ``tensorboard/``;
            made if missing.
        settings: what the result depends on; a checkpoint written under others is refused.
        steps: at which it ends, at least 1.
        save_every: steps between two checkpoints, at least 1.
        max_gradient_norm: larger gradients are scaled down to it.

    Raises:
        ValueError: a number below 1.
    """

    name: str
    output: Path
    settings: Settings
    steps: int
    save_every: int
    max_gradient_norm: float

    def __post_init__(self) -> None:
        if self.steps < 1 or self.save_every < 1:
            raise ValueError(f"steps and save_every must be at least 1, not {self.steps} and {self.save_every}")

    def run(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: Optimizer,
        learning_rate: Callable[[int], float],
        loss_of: Callable[[int], StepLoss],
        after: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Take all steps that the checkpoint has not taken yet.

        Args:
            modules: saved and restored under these names.
            optimizer: of the parameters that are trained.
            learning_rate: of a step; a group of parameters with an entry ``factor`` gets that share of it.
            loss_of: loss of a step. It must depend on the step and the weights alone, so that a resumed run sees
                what an uninterrupted one sees.
            after: called with the step after the weights were changed.

        Raises:
            ValueError: the checkpoint is damaged or of another configuration.
            FloatingPointError: the loss or its gradient became not finite; the last checkpoint is kept.
        """
        first = process_rank() == 0
        self.output.mkdir(parents=True, exist_ok=True)
        checkpoint = self.output / "checkpoint.safetensors"
        start = load_checkpoint(checkpoint, modules, optimizer, self.settings) if checkpoint.exists() else 0
        if start >= self.steps and first:
            tqdm.write(f"{self.name}: {checkpoint} is already at step {start}; nothing is left to train")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        smoothed: dict[str, float] = {}
        steps = range(start, self.steps)
        with (
            tqdm(steps, initial=start, total=self.steps, unit="step", desc=self.name, disable=not first) as progress,
            _curves(self.output / "tensorboard", start) if first else nullcontext() as curves,
        ):
            for step in progress:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step) * group.get("factor", 1.0)
                current = loss_of(step)
                figure = current.loss.item()
                self._check("loss", figure, step, current.batch)
                optimizer.zero_grad()
                current.loss.backward()  # type: ignore[no-untyped-call]
                average_gradients(parameters)
                norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm).item()
                self._check("gradient", norm, step, current.batch)
                optimizer.step()
                average_statistics(modules.values())
                after(step)
                before = smoothed.get(current.curve, figure)
                smoothed[current.curve] = _SMOOTHING * before + (1 - _SMOOTHING) * figure
                progress.set_postfix({name: f"{value:.4f}" for name, value in smoothed.items()}, refresh=False)
                if curves is not None:
                    curves.add_scalar(current.curve, figure, step)
                    curves.add_scalar("learning_rate", learning_rate(step), step)
                    curves.add_scalar("gradient_norm", norm, step)
                if first and ((step + 1) % self.save_every == 0 or step + 1 == self.steps):
                    save_checkpoint(checkpoint, step + 1, modules, optimizer, self.settings)
                    with (self.output / "log.csv").open("a", encoding="utf-8") as log:
                        log.writelines(f"{step + 1},{name},{value:.5f}\n" for name, value in smoothed.items())

    def _check(self, what: str, figure: float, step: int, batch: Sequence[str]) -> None:
        if not math.isfinite(figure):
            checkpoint = self.output / "checkpoint.safetensors"
            kept = (
                f"the last good weights are in {checkpoint}" if checkpoint.exists() else "no checkpoint was written yet"
            )
            raise FloatingPointError(f"{self.name}: {what} is {figure} at step {step}, on {', '.join(batch)}; {kept}")


def _curves(folder: Path, start: int) -> SummaryWriter:
    """Open TensorBoard's file; what an interrupted run wrote after its last checkpoint is hidden by ``start``."""
    return SummaryWriter(str(folder), purge_step=start)


def training_settings(config: Any, pairs: Sequence[PairFiles], initial: Path | None) -> Settings:
    """Return what a training's result depends on: its configuration without the length, and its pairs.

    Args:
        config: a dataclass with ``steps`` and ``save_every``; both may change when a run goes on.
        pairs: that are trained on.
        initial: weights that it starts from.
    """
    settings = dataclasses.asdict(config)
    del settings["steps"], settings["save_every"]
    settings.pop("skip_unusable", None)  # the pairs that are left are what counts
    names = [f"{pair.dataset}/{pair.name}" for pair in pairs]
    return {**settings, "initial": str(initial), "pairs": hashlib.sha256("\n".join(names).encode()).hexdigest()}


def weights_digest(networks: Sequence[nn.Module]) -> str:
    """Return a digest of frozen networks' weights: a run that others took part in is not resumed."""
    digest = hashlib.sha256()
    for network in networks:
        for value in network.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
