"""The loop that every training runs in: resumable, with progress, and stopping at a loss that is not finite."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from irvf.training.checkpoint import Settings, load_checkpoint, save_checkpoint
from irvf.training.data import PairFiles

_SMOOTHING = 0.98


@dataclass(frozen=True)
class Loop:
    """How long a training runs, and what it leaves in its folder.

    Attributes:
        name: shown beside the progress bar.
        output: folder of ``checkpoint.safetensors`` and ``log.csv`` (step, smoothed loss); made if missing.
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
        loss_of: Callable[[int], Tensor],
        after: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Take all steps that the checkpoint has not taken yet.

        Args:
            modules: saved and restored under these names.
            optimizer: of the parameters that are trained.
            learning_rate: of a step.
            loss_of: loss of a step, a scalar with a gradient. It must depend on the step and the weights alone, so
                that a resumed run sees what an uninterrupted one sees.
            after: called with the step after the weights were changed.

        Raises:
            ValueError: the checkpoint is damaged or of another configuration.
            FloatingPointError: the loss or its gradient became not finite; the last checkpoint is kept.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        checkpoint = self.output / "checkpoint.safetensors"
        start = load_checkpoint(checkpoint, modules, optimizer, self.settings) if checkpoint.exists() else 0
        if start >= self.steps:
            tqdm.write(f"{self.name}: {checkpoint} is already at step {start}; nothing is left to train")
        progress = tqdm(range(start, self.steps), initial=start, total=self.steps, unit="step", desc=self.name)
        smoothed = math.nan
        for step in progress:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step)
            loss = loss_of(step)
            figure = loss.item()
            if not math.isfinite(figure):
                raise FloatingPointError(f"loss is {figure} at step {step}; the last good weights are in {checkpoint}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm).item()
            if not math.isfinite(norm):
                raise FloatingPointError(
                    f"gradient is {norm} at step {step}; the last good weights are in {checkpoint}"
                )
            optimizer.step()
            after(step)
            smoothed = figure if math.isnan(smoothed) else _SMOOTHING * smoothed + (1 - _SMOOTHING) * figure
            progress.set_postfix(loss=f"{smoothed:.4f}", refresh=False)
            if (step + 1) % self.save_every == 0 or step + 1 == self.steps:
                save_checkpoint(checkpoint, step + 1, modules, optimizer, self.settings)
                with (self.output / "log.csv").open("a", encoding="utf-8") as log:
                    log.write(f"{step + 1},{smoothed:.5f}\n")


def training_settings(config: Any, pairs: Sequence[PairFiles], initial: Path | None) -> Settings:
    """Return what a training's result depends on: its configuration without the length, and its pairs.

    Args:
        config: a dataclass with ``steps`` and ``save_every``; both may change when a run goes on.
        pairs: that are trained on.
        initial: weights that it starts from.
    """
    settings = dataclasses.asdict(config)
    del settings["steps"], settings["save_every"]
    names = [f"{pair.dataset}/{pair.name}" for pair in pairs]
    return {**settings, "initial": str(initial), "pairs": hashlib.sha256("\n".join(names).encode()).hexdigest()}
