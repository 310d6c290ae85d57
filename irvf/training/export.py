"""Writes trained networks as model folders: safetensors to train on, ONNX to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.box_detector import BoxDetectorNetwork, DeployedBoxDetector

OPSET = 20
TOLERANCE = 1e-4
"""Largest difference between torch and the exported network that is taken for rounding."""


class ExportError(RuntimeError):
    """The exported network does not equal the trained one."""


def _write_weights(network: nn.Module, path: Path) -> None:
    """Write the weights in half precision: to train on from there, that is enough, and a model folder stays small."""
    half = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file({key: value.contiguous(memory_format=torch.contiguous_format) for key, value in half.items()}, path)


def _export(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    output: str,
    path: Path,
    **dynamic: Any,
) -> None:
    network = network.eval().cpu()
    unchecked = path.with_suffix(".tmp")
    torch.onnx.export(
        network,
        tuple(inputs.values()),
        str(unchecked),
        input_names=list(inputs),
        output_names=[output],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
        **dynamic,
    )
    try:
        _strip_traces(unchecked)
        _compare(network, unchecked, (inputs, other))
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)


def _strip_traces(path: Path) -> None:
    """Remove the stack traces that torch leaves in the file: half of its size, and paths of the machine."""
    model = onnx.load(path)
    for graph in (model.graph, *model.functions):
        for entry in (graph, *graph.node, *graph.value_info):
            del entry.metadata_props[:]
            entry.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.ClearField("doc_string")
    del model.metadata_props[:]
    onnx.save(model, path)


def _compare(network: nn.Module, path: Path, cases: Sequence[Mapping[str, Tensor]]) -> None:
    """Raise :class:`ExportError` where onnxruntime and torch disagree."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for case in cases:
        with torch.no_grad():
            expected = network(*case.values()).numpy()
        (found,) = session.run(None, {name: value.numpy() for name, value in case.items()})
        if found.shape != expected.shape:
            raise ExportError(f"the exported network returns {list(found.shape)}, torch {list(expected.shape)}")
        # Relative to one pixel or one unit, whichever is larger: detector outputs are in pixels.
        error = float(np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1)))
        if not error <= TOLERANCE:  # NaN is an error, too
            raise ExportError(f"the exported network differs from torch by {error:.2g} (allowed {TOLERANCE:g})")


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``config.yaml`` of a model folder (see :class:`irvf.models.Model`)."""
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False), "utf-8")


def export_base(network: BaseFusionNetwork, folder: Path) -> None:
    """Write the base fusion network: inputs ``thermal`` and ``luma``, output ``fused``, each ``[1 x 1 x H x W]``.

    Height and width are dynamic.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(network, folder / "fusion.safetensors")
    generator = torch.Generator().manual_seed(0)
    inputs, other = (
        {name: torch.rand(1, 1, *size, generator=generator) for name in ("thermal", "luma")}
        for size in ((96, 128), (75, 61))
    )
    height, width = torch.export.Dim("height", min=16), torch.export.Dim("width", min=16)
    _export(network, inputs, other, "fused", folder / "fusion.onnx", dynamic_shapes=[{2: height, 3: width}] * 2)
    write_config(folder, {"kind": "fusion", "onnx": "fusion.onnx", "licence": "Apache-2.0"})


def export_detector(
    network: BoxDetectorNetwork, folder: Path, labels: Sequence[str], input_size: tuple[int, int]
) -> None:
    """Write the detector: input ``image [1 x 3 x H x W]``, output ``predictions [1 x (4 + classes) x N]``.

    The size is fixed to ``input_size`` (height, width), so that the points are constants of the graph.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(network, folder / "detector.safetensors")
    generator = torch.Generator().manual_seed(0)
    inputs, other = ({"image": torch.rand(1, 3, *input_size, generator=generator)} for _ in range(2))
    _export(DeployedBoxDetector(network), inputs, other, "predictions", folder / "detector.onnx")
    write_config(
        folder,
        {
            "kind": "detector",
            "onnx": "detector.onnx",
            "licence": "Apache-2.0",
            "labels": list(labels),
            "input_size": list(input_size),
        },
    )
