"""The loop of every training: what it leaves behind, where it stops, and that it goes on as if it never had."""

import dataclasses

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from irvf.training.base import BaseTrainingConfig
from irvf.training.data import find_pairs
from irvf.training.loop import Loop, StepLoss, training_settings, weights_digest

SETTINGS = {"seed": 1}


class Training:
    """A plane is fitted to points that depend on the step alone; every other step belongs to another curve."""

    def __init__(self, output, steps=6, save_every=2, settings=SETTINGS, spoilt=(), interrupted=None):
        torch.manual_seed(0)
        self.module, self.average = nn.Linear(3, 1), nn.Linear(3, 1)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1.0)
        self.loop = Loop("plane", output, settings, steps, save_every, max_gradient_norm=1.0)
        self.spoilt, self.interrupted = spoilt, interrupted
        self.seen, self.rates, self.after = [], [], []

    def loss_of(self, step):
        if step == self.interrupted:
            raise KeyboardInterrupt
        self.seen.append(step)
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        points = torch.rand(8, 3, generator=torch.Generator().manual_seed(step))
        loss = (self.module(points) - points.sum(1, keepdim=True)).square().mean()
        if step in self.spoilt:
            loss = loss * self.spoilt[step]
        return StepLoss(loss, (f"set/image {step}", "set/other"), "even" if step % 2 == 0 else "odd")

    def run(self):
        modules = {"network": self.module, "average": self.average}
        self.loop.run(modules, self.optimizer, lambda step: 0.01 * (step + 1), self.loss_of, self.after.append)
        return self.module.weight.detach().clone()


def curves(output):
    accumulator = EventAccumulator(str(output / "tensorboard")).Reload()
    return {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}


def test_every_step_is_taken_once_with_its_learning_rate(tmp_path):
    training = Training(tmp_path / "runs" / "first")
    training.run()
    assert training.seen == training.after == list(range(6))
    assert training.rates == pytest.approx([0.01 * (step + 1) for step in range(6)])
    assert {path.name for path in (tmp_path / "runs" / "first").iterdir()} == {
        "checkpoint.safetensors", "log.csv", "tensorboard",
    }  # fmt: skip


def test_a_group_may_get_a_share_of_the_learning_rate(tmp_path):
    training = Training(tmp_path, steps=2)
    groups = [{"params": [training.module.weight]}, {"params": [training.module.bias], "factor": 0.5}]
    training.optimizer = torch.optim.SGD(groups, lr=1.0)
    training.run()
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([0.02, 0.01])
    training.loop = dataclasses.replace(training.loop, steps=3)
    training.run()  # the factor is a part of the checkpoint
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([0.03, 0.015])


def test_the_log_has_step_curve_and_value(tmp_path):
    Training(tmp_path).run()
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert [(step, curve) for step, curve, _ in rows] == [(s, c) for s in ("2", "4", "6") for c in ("even", "odd")]
    assert all(float(value) > 0 for _, _, value in rows)


def test_the_curves_can_be_read_by_tensorboard(tmp_path):
    Training(tmp_path).run()
    found = curves(tmp_path)
    assert set(found) == {"even", "odd", "learning_rate", "gradient_norm"}
    assert [entry.step for entry in found["even"]] == [0, 2, 4]
    assert [entry.value for entry in found["learning_rate"]] == pytest.approx([0.01 * step for step in range(1, 7)])


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = Training(tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path / "parts", interrupted=3).run()
    resumed = Training(tmp_path / "parts")
    assert torch.equal(resumed.run(), whole)
    assert resumed.seen == [2, 3, 4, 5]  # step 2 was taken, but not saved
    steps = [entry.step for entry in curves(tmp_path / "parts")["learning_rate"]]
    assert steps == list(range(6))  # what was written after the checkpoint is hidden


def test_a_finished_run_says_so_and_can_be_prolonged(tmp_path, capsys):
    done = Training(tmp_path, steps=4).run()
    again = Training(tmp_path, steps=4)
    assert torch.equal(again.run(), done)
    assert again.seen == []
    assert "already at step 4" in capsys.readouterr().out
    longer = Training(tmp_path, steps=6)
    assert torch.equal(longer.run(), Training(tmp_path / "whole").run())
    assert longer.seen == [4, 5]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_loss_and_batch_and_keeps_the_checkpoint(tmp_path, factor):
    training = Training(tmp_path, spoilt={3: factor})
    with pytest.raises(FloatingPointError) as raised:
        training.run()
    message = str(raised.value)
    assert f"loss is {factor} at step 3" in message
    assert "set/image 3, set/other" in message
    assert str(tmp_path / "checkpoint.safetensors") in message
    resumed = Training(tmp_path)
    assert torch.equal(resumed.run(), Training(tmp_path / "whole").run())
    assert resumed.seen == [2, 3, 4, 5]


def test_without_a_checkpoint_none_is_promised(tmp_path):
    with pytest.raises(FloatingPointError, match=r"step 1, .*no checkpoint was written"):
        Training(tmp_path, spoilt={1: float("nan")}).run()
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    training = Training(tmp_path)
    start = training.module.weight.detach().clone()

    def loss_of(step):
        nothing = (training.module.weight * 0).abs().sqrt().sum()  # a slope of infinity times zero
        return StepLoss(nothing, ("set/image",))

    training.loss_of = loss_of
    with pytest.raises(FloatingPointError, match="gradient is nan at step 0, on set/image"):
        training.run()
    assert torch.equal(training.module.weight, start)


def test_large_gradients_are_scaled_down(tmp_path):
    training = Training(tmp_path, steps=1, spoilt={0: 1e6})
    training.optimizer = torch.optim.SGD(training.module.parameters(), lr=1.0)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in training.module.parameters()])
    training.run()
    after = torch.cat([parameter.detach().flatten() for parameter in training.module.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)  # learning rate times the largest norm
    assert curves(tmp_path)["gradient_norm"][0].value > 1e5  # as it was before


def test_other_settings_are_refused_before_a_step(tmp_path):
    Training(tmp_path, steps=2).run()
    other = Training(tmp_path, settings={"seed": 2})
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        other.run()
    assert other.seen == []


@pytest.mark.parametrize("numbers", [{"steps": 0}, {"save_every": 0}, {"steps": -3}])
def test_numbers_below_one_are_refused(tmp_path, numbers):
    with pytest.raises(ValueError, match="must be at least 1"):
        Training(tmp_path, **numbers)


def test_settings_are_the_configuration_without_its_length_and_the_pairs(pair_folder):
    pairs = find_pairs(pair_folder(("a", "b")))
    settings = training_settings(BaseTrainingConfig(), pairs, None)
    assert training_settings(BaseTrainingConfig(steps=9, save_every=9), pairs, None) == settings
    assert training_settings(BaseTrainingConfig(seed=9), pairs, None) != settings
    assert training_settings(BaseTrainingConfig(), pairs[:1], None) != settings
    assert training_settings(BaseTrainingConfig(), pairs, pairs[0].rgb) != settings


def test_the_digest_of_frozen_weights_follows_every_weight():
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    second.load_state_dict(first.state_dict())
    assert weights_digest([first]) == weights_digest([second])
    with torch.no_grad():
        second.bias[1] += 1e-6
    assert weights_digest([first]) != weights_digest([second])
