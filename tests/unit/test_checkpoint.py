"""Training state on disk: what is written comes back, and nothing half written or foreign is taken."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from irvf.training.checkpoint import load_checkpoint, save_checkpoint

SETTINGS = {"seed": 1, "crops": (2, 3)}


def network(width=4):
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)


def trained(steps, seed=0, width=4):
    torch.manual_seed(seed)
    module = network(width)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    train(module, optimizer, range(steps))
    return module, optimizer


def train(module, optimizer, steps):
    for step in steps:
        images = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        module(images).square().sum().backward()
        optimizer.step()


def test_training_goes_on_as_if_it_had_never_stopped(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    whole, _ = trained(6)
    half, optimizer = trained(3)
    save_checkpoint(file, 3, {"network": half}, optimizer, SETTINGS)

    resumed, optimizer = trained(0, seed=9)
    assert load_checkpoint(file, {"network": resumed}, optimizer, SETTINGS) == 3
    train(resumed, optimizer, range(3, 6))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)


def test_modules_are_kept_apart(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    one, optimizer = trained(1)
    two, _ = trained(2, seed=1)
    save_checkpoint(file, 1, {"network": one, "average": two}, optimizer, SETTINGS)
    loaded = {"network": network(), "average": network()}
    load_checkpoint(file, loaded, torch.optim.Adam(loaded["network"].parameters()), SETTINGS)
    assert torch.equal(loaded["network"][0].weight, one[0].weight)
    assert torch.equal(loaded["average"][0].weight, two[0].weight)


def test_another_configuration_is_refused(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    module, optimizer = trained(1)
    save_checkpoint(file, 1, {"network": module}, optimizer, SETTINGS)
    other, other_optimizer = trained(0, width=6)
    with pytest.raises(ValueError, match="another configuration") as raised:
        load_checkpoint(file, {"network": other}, other_optimizer, SETTINGS)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    module, optimizer = trained(1)
    save_checkpoint(file, 1, {"network": module}, optimizer, SETTINGS)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged"):
        load_checkpoint(file, {"network": module}, optimizer, SETTINGS)


def test_weights_without_a_training_are_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    module, optimizer = trained(0)
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, file)
    with pytest.raises(ValueError, match="no checkpoint of a training"):
        load_checkpoint(file, {"network": module}, optimizer, SETTINGS)


def test_a_failure_leaves_the_last_checkpoint_and_nothing_else(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    module, optimizer = trained(1)
    save_checkpoint(file, 1, {"network": module}, optimizer, SETTINGS)
    before = file.read_bytes()
    optimizer.param_groups[0]["schedule"] = object()  # cannot be written as JSON
    with pytest.raises(TypeError):
        save_checkpoint(file, 2, {"network": module}, optimizer, SETTINGS)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_failure_of_the_disk_leaves_nothing_half_written(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    file.mkdir()  # cannot be replaced by a file
    module, optimizer = trained(1)
    with pytest.raises(OSError, match=r"checkpoint\.safetensors"):
        save_checkpoint(file, 1, {"network": module}, optimizer, SETTINGS)
    assert list(tmp_path.iterdir()) == [file]


def test_other_settings_are_refused_by_name(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    module, optimizer = trained(1)
    save_checkpoint(file, 1, {"network": module}, optimizer, SETTINGS)
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        load_checkpoint(file, {"network": module}, optimizer, {**SETTINGS, "seed": 2})
