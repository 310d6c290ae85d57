"""Training state on disk: safetensors with a JSON header, never pickle; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

Settings = Mapping[str, object]
"""What a training depends on, as JSON can hold it: configuration, data."""


def save_checkpoint(
    path: Path, step: int, modules: Mapping[str, nn.Module], optimizer: Optimizer, settings: Settings
) -> None:
    """Write modules, optimiser state, step and settings to ``path`` through a temporary file beside it."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    state = optimizer.state_dict()
    for index, entry in state["state"].items():
        tensors.update({f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in entry.items()})
    # channels_last tensors are views in another memory order, which the format does not take
    tensors = {key: value.contiguous(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    temporary = path.with_suffix(".tmp")
    metadata = {"step": str(step), "groups": json.dumps(groups), "settings": json.dumps(settings)}
    try:
        save_file(tensors, temporary, metadata=metadata)
        os.replace(temporary, path)  # noqa: PTH105  (atomic by its documentation; Path.replace says nothing of it)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer, settings: Settings) -> int:
    """Restore what :func:`save_checkpoint` wrote and return its step.

    Raises:
        ValueError: the file is damaged, holds other modules, or was written under other settings; they are named.
    """
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118  (not a dict: it has no __iter__)
                tensors[key] = file.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start anew") from error
    if not {"step", "groups", "settings"} <= set(metadata):
        raise ValueError(f"{path} is no checkpoint of a training; give another --output")
    written, wanted = json.loads(metadata["settings"]), json.loads(json.dumps(settings))
    changed = sorted(name for name in {*written, *wanted} if written.get(name) != wanted.get(name))
    if changed:
        raise ValueError(f"{path} was written under other settings ({', '.join(changed)}); give another --output")
    for name, module in modules.items():
        weights = {key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{path} was written by another configuration; give another --output: {reason}") from error
    state = optimizer.state_dict()
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, field = key.split("/")
            entries.setdefault(int(index), {})[field] = value
    for group, saved in zip(state["param_groups"], json.loads(metadata["groups"]), strict=True):
        group.update(saved)
    optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
    return int(metadata["step"])


def load_weights(network: nn.Module, path: Path, prefix: str = "", without: str = "centroids.") -> None:
    """Start a network from weights that a model folder holds (``*.safetensors``).

    Args:
        network: to start.
        path: file.
        prefix: of the network's tensors in it; others are left out.
        without: prefix of what lies beside the network's tensors and is not of it.

    Raises:
        ValueError: the file cannot be read, or holds the weights of another network.
    """
    try:
        weights = load_file(path)
        own = [key for key in weights if key.startswith(prefix) and not key.startswith(without)]
        network.load_state_dict({key.removeprefix(prefix): weights[key] for key in own})
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} does not hold the weights of this network: {reason}") from error


def load_encoder(network: nn.Module, path: Path) -> None:
    """Start a task network from the weights of another one: of what both have under the same name, mostly the encoder.

    Raises:
        ValueError: the file cannot be read, or shares no weights with the network.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from error
    own = network.state_dict()
    shared = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    if not any(key.startswith("encoder.") for key in shared):
        raise ValueError(f"{path} does not hold the weights of a task network: it has no encoder of this form")
    network.load_state_dict(shared, strict=False)
