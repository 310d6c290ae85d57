"""One training in two processes: both end with the same network, and one of them writes it."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from irvf.models import load_model
from irvf.training.base import BaseTrainingConfig, train_base
from irvf.training.config import load_config
from irvf.training.processes import (
    average_gradients,
    average_statistics,
    process_count,
    process_device,
    process_rank,
    step_generator,
)

TINY = """channels: 4
blocks: 1
steps: 6
save_every: 3
learning_rate: 0.01
crops:
- {until: 1.0, side: 16, batch: 2}
"""
DRIVER = """
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from irvf.cli.__main__ import main
from irvf.training.base import BaseTrainingConfig, train_base
from irvf.training.config import load_config
from irvf.training.processes import average_gradients, process_count, process_rank, step_generator

data, config, output = map(Path, sys.argv[1:])
rank = process_rank()
torch.set_num_threads(1)
learned, idle_in_one, idle = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
learned.grad = torch.tensor([[0.0, 2, 4], [6, 8, 10]]) * rank
if rank:
    idle_in_one.grad = torch.ones(2, 3)
average_gradients([learned, idle_in_one, idle])
network = train_base(data, output, load_config(BaseTrainingConfig, config))
found = {f"network.{name}": value for name, value in network.state_dict().items()}
found |= {"learned": learned.grad, "idle_in_one": idle_in_one.grad, "idle": idle.grad}
found["drawn"] = torch.from_numpy(step_generator(0, 5).uniform(size=4))
found["drawn_together"] = torch.from_numpy(step_generator(0, 5, shared=True).uniform(size=4))
found["processes"] = torch.tensor([process_count(), rank])
save_file({name: value.contiguous() for name, value in found.items()}, output / f"rank{rank}.safetensors")
# The same training again has nothing left to do but to write the model.
sys.exit(main(["train", "base", f"--data={data}", f"--config={config}", f"--output={output}", "--threads=1"]))
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, scene_pairs):
    """Train a tiny base network in two processes; returns its folder, what each process found, and what they said."""
    root = tmp_path_factory.mktemp("two_processes")
    (root / "driver.py").write_text(DRIVER)
    (root / "tiny.yaml").write_text(TINY)
    output = root / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")
    }
    done = subprocess.run(  # noqa: S603  (this interpreter, a fixed script)
        [*launcher, str(root / "driver.py"), str(scene_pairs), str(root / "tiny.yaml"), str(output)],
        env={
            **environment,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root, [load_file(output / f"rank{rank}.safetensors") for rank in range(2)], done.stdout


def weights(found):
    return {name: value for name, value in found.items() if name.startswith("network.")}


def test_they_know_each_other(two_processes):
    _, found, _ = two_processes
    assert [entry["processes"].tolist() for entry in found] == [[2, 0], [2, 1]]


def test_gradients_are_averaged(two_processes):
    for found in two_processes[1]:
        assert torch.equal(found["learned"], torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
        assert torch.equal(found["idle_in_one"], torch.full((2, 3), 0.5))
        assert not found["idle"].any()


def test_each_draws_batches_of_its_own_and_shares_what_must_be_shared(two_processes):
    first, second = two_processes[1]
    assert not torch.equal(first["drawn"], second["drawn"])
    assert torch.equal(first["drawn_together"], second["drawn_together"])
    assert torch.equal(first["drawn"], first["drawn_together"])  # one process sees what it would see alone


def test_both_end_with_the_same_network(two_processes):
    first, second = (weights(found) for found in two_processes[1])
    assert any("running_var" in name for name in first)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)


def test_the_other_process_had_its_share(two_processes, scene_pairs, tmp_path):
    root, found, _ = two_processes
    alone = train_base(scene_pairs, tmp_path, load_config(BaseTrainingConfig, root / "tiny.yaml"))
    together = weights(found[0])
    assert any(not torch.allclose(together[f"network.{name}"], value) for name, value in alone.state_dict().items())


def test_one_process_writes(two_processes):
    root, found, said = two_processes
    output = root / "run"
    assert [line.split(",")[0] for line in (output / "log.csv").read_text().splitlines()] == ["3", "6"]
    assert said.count("model written to") == 1
    saved = load_file(output / "checkpoint.safetensors")
    for name, value in weights(found[0]).items():
        assert torch.equal(saved[name.replace("network.", "network/", 1)], value)
    assert load_model(str(output / "model"), "fusion").onnx.is_file()


def test_a_process_alone_is_the_first_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (process_count(), process_rank()) == (1, 0)
    assert [process_device(device) for device in ("cpu", "cuda:1")] == ["cpu", "cuda:1"]


def test_alone_nothing_is_averaged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    idle, learned = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    learned.grad = torch.tensor([1.0, 3.0])
    average_gradients([idle, learned])
    assert idle.grad is None
    assert learned.grad.tolist() == [1, 3]
    layer = nn.BatchNorm2d(2)
    average_statistics([nn.Sequential(layer)])
    assert layer.running_var.tolist() == [1, 1]


def test_a_step_repeats_its_randomness():
    first, again = (step_generator(3, 7).integers(1 << 30, size=8).tolist() for _ in range(2))
    assert first == again
    others = [step_generator(*arguments).integers(1 << 30, size=8).tolist() for arguments in ((3, 8), (4, 7), (7, 3))]
    assert first not in others
