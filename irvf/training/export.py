"""Writes trained networks as model folders: safetensors to train on, ONNX to run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from irvf.models import file_digest
from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.box_detector import BoxDetectorNetwork, DeployedBoxDetector
from irvf.networks.deployed import architecture_of
from irvf.networks.realtime_fusion import BLOCK_SIDE, FoldedRealtimeNetwork, RealtimeFusionNetwork
from irvf.networks.salient_object import DeployedSaliencyNetwork, SaliencyNetwork
from irvf.networks.task_regulation import FixedInstruction, FoldedFusionNetwork, RegulatedFusionNetwork
from irvf.training.weight_quantization import halve_weights

OPSET = 20
TOLERANCE = 1e-4
"""Largest difference between torch and the exported network that is taken for rounding."""
HALF_TOLERANCE = 5e-3
"""Largest difference once the weights are stored in half precision."""


class ExportError(RuntimeError):
    """The exported network does not equal the trained one."""


def _write_weights(network: nn.Module, path: Path) -> None:
    _write_tensors(network.state_dict(), path)


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write weights in half precision: to train on from there, that is enough, and a model folder stays small."""
    half = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    temporary = path.with_suffix(".part")
    try:
        contiguous = {key: value.contiguous(memory_format=torch.contiguous_format) for key, value in half.items()}
        save_file(contiguous, temporary)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def export_network(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    output: str,
    path: Path,
    *,
    half: bool = False,
    **dynamic: Any,
) -> None:
    """Write a network as ONNX without traces of this machine, if onnxruntime's result is torch's.

    Args:
        network: returns one tensor.
        inputs: example inputs by the names that the graph gets.
        other: other inputs to compare with, of another size where the graph is to be dynamic.
        output: name of the output.
        path: file to write.
        half: store large weights in half precision.
        dynamic: as of ``torch.onnx.export``.

    Raises:
        ExportError: onnxruntime's result is not torch's; nothing is written.
    """
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
        _compare(network, unchecked, (inputs, other), TOLERANCE)
        if half:
            halve_weights(unchecked, unchecked)
            _compare(network, unchecked, (inputs,), HALF_TOLERANCE)
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


def _compare(network: nn.Module, path: Path, cases: Sequence[Mapping[str, Tensor]], tolerance: float) -> None:
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
        if not error <= tolerance:  # NaN is an error, too
            raise ExportError(f"the exported network differs from torch by {error:.2g} (allowed {tolerance:g})")


def write_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``config.yaml`` of a model folder (see :class:`irvf.models.Model`), with digests of the files it names."""
    files = [name for name in content.values() if isinstance(name, str) and (folder / name).is_file()]
    content = {**content, "digests": {name: file_digest(folder / name) for name in files}}
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False), "utf-8")


def export_base(network: BaseFusionNetwork, folder: Path) -> None:
    """Write the bare base fusion network: inputs ``thermal`` and ``luma``, output ``fused``, each ``[1 x 1 x H x W]``.

    Height and width are dynamic.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    _write_weights(network, _made(folder) / "fusion.safetensors")
    _export_planes(network, folder / "fusion.onnx")
    content = {"kind": "fusion", "onnx": "fusion.onnx", "licence": "Apache-2.0"}
    write_config(folder, {**content, **_architecture(network)})


def export_regulated(
    network: RegulatedFusionNetwork, folder: Path, centroids: Mapping[str, NDArray[np.float32]], text_encoder: str
) -> None:
    """Write the regulated network: inputs ``thermal``, ``luma`` and ``prompt``, output ``fused``.

    Planes are ``[1 x 1 x H x W]`` with dynamic height and width, the prompt is ``[2(M-1) x C * C * 9]``. What makes the
    prompt of a text, adapter and predictors, lies beside in ``fusion.safetensors``.

    Args:
        network: trained.
        folder: made if missing.
        centroids: mean embedding of each task's wordings, ``[T]``.
        text_encoder: name of the model that embeds the texts.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    rounded = _rounded(network)
    folded = FoldedFusionNetwork(rounded)
    height, width = torch.export.Dim("height", min=16), torch.export.Dim("width", min=16)
    _export_instructed(rounded, folded, folder, centroids, sizes=((96, 128), (75, 61)), dimensions=(height, width))
    _write_instructed_config(folder, text_encoder, **_architecture(network))


def export_realtime(
    network: RealtimeFusionNetwork, folder: Path, centroids: Mapping[str, NDArray[np.float32]], text_encoder: str
) -> None:
    """Write the real-time network as :func:`export_regulated` writes the other; the prompt is ``[blocks x 2C]``.

    Height and width are multiples of :data:`irvf.networks.realtime_fusion.BLOCK_SIDE`.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    rounded = _rounded(network)
    folded = FoldedRealtimeNetwork(rounded)
    height, width = (BLOCK_SIDE * torch.export.Dim(name, min=4) for name in ("rows", "columns"))
    _export_instructed(rounded, folded, folder, centroids, sizes=((96, 128), (76, 60)), dimensions=(height, width))
    _write_instructed_config(
        folder, text_encoder, size_multiple=BLOCK_SIDE, prefers_16_bits=True, **_architecture(network)
    )


def _export_instructed(
    network: RegulatedFusionNetwork | RealtimeFusionNetwork,
    folded: nn.Module,
    folder: Path,
    centroids: Mapping[str, NDArray[np.float32]],
    *,
    sizes: Sequence[tuple[int, int]],
    dimensions: tuple[Any, Any],
) -> None:
    """Write graph and weights of a network; what is exported is what is stored, since each file holds a part of it."""
    generator = torch.Generator().manual_seed(0)
    text_width = next(iter(centroids.values())).size
    text = functional.normalize(torch.randn(1, text_width, generator=generator))
    prompt = network.regulation.prompts(text)[0].detach()
    inputs, other = (
        {
            "thermal": torch.rand(1, 1, *size, generator=generator),
            "luma": torch.rand(1, 1, *size, generator=generator),
            "prompt": prompt,
        }
        for size in sizes
    )
    plane = dict(zip((2, 3), dimensions, strict=True))
    shapes = [plane, plane, {}]
    export_network(folded, inputs, other, "fused", _made(folder) / "fusion.onnx", dynamic_shapes=shapes)
    state = {f"centroids.{task}": torch.from_numpy(centroid) for task, centroid in centroids.items()}
    _write_tensors({**network.state_dict(), **state}, folder / "fusion.safetensors")


def _write_instructed_config(folder: Path, text_encoder: str, **more: Any) -> None:
    files = {"onnx": "fusion.onnx", "weights": "fusion.safetensors", "text_encoder": text_encoder}
    write_config(folder, {"kind": "fusion", **files, **more, "licence": "Apache-2.0"})


def export_fixed(network: RegulatedFusionNetwork, folder: Path, embedding: NDArray[np.float32]) -> None:
    """Write a regulated network for one instruction, as :func:`export_base` writes the bare one.

    The ablations, whose injections do not fold into a prompt, are evaluated in this form.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    _write_weights(network, _made(folder) / "fusion.safetensors")
    _export_planes(FixedInstruction(network, torch.from_numpy(embedding)[None]), folder / "fusion.onnx")
    write_config(folder, {"kind": "fusion", "onnx": "fusion.onnx", "licence": "Apache-2.0"})


def export_detector(
    network: BoxDetectorNetwork, folder: Path, labels: Sequence[str], input_size: tuple[int, int]
) -> None:
    """Write the detector: input ``image [1 x 3 x H x W]``, output ``predictions [1 x (4 + classes) x N]``.

    It was trained at ``input_size`` (height, width), and takes any multiples of 32.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    _write_weights(network, _made(folder) / "detector.safetensors")
    generator = torch.Generator().manual_seed(0)
    inputs, other = ({"image": torch.rand(1, 3, *size, generator=generator)} for size in (input_size, input_size[::-1]))
    rows, columns = (32 * torch.export.Dim(name, min=2) for name in ("rows", "columns"))
    export_network(
        DeployedBoxDetector(network),
        inputs,
        other,
        "predictions",
        folder / "detector.onnx",
        half=True,
        dynamic_shapes=[{2: rows, 3: columns}],
    )
    write_config(
        folder,
        {
            "kind": "detector",
            "onnx": "detector.onnx",
            "licence": "Apache-2.0",
            "labels": list(labels),
            "input_size": list(input_size),
            "takes_other_sizes": True,
            **_architecture(network),
        },
    )


def export_segmentation(network: nn.Module, folder: Path, labels: Sequence[str], input_size: tuple[int, int]) -> None:
    """Write the segmentation: input ``image [1 x 3 x H x W]``, output ``logits [1 x K x h x w]``, of fixed size.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    _write_weights(network, _made(folder) / "segmentation.safetensors")
    _export_image_network(network, folder / "segmentation.onnx", "logits", input_size)
    content = {"kind": "segmentation", "onnx": "segmentation.onnx", "labels": ["background", *labels]}
    more = {"input_size": list(input_size), "licence": "Apache-2.0", **_architecture(network)}
    write_config(folder, {**content, **more})


def export_saliency(network: SaliencyNetwork, folder: Path, input_size: tuple[int, int]) -> None:
    """Write the saliency: input ``image [1 x 3 x H x W]``, output ``saliency [1 x 1 x h x w]`` in 0..1, of fixed size.

    Raises:
        ExportError: onnxruntime's result is not torch's.
    """
    _write_weights(network, _made(folder) / "saliency.safetensors")
    _export_image_network(DeployedSaliencyNetwork(network), folder / "saliency.onnx", "saliency", input_size)
    content = {"kind": "saliency", "onnx": "saliency.onnx", "input_size": list(input_size), "licence": "Apache-2.0"}
    write_config(folder, {**content, **_architecture(network)})


Network = TypeVar("Network", bound=nn.Module)


def _rounded(network: Network) -> Network:
    """Return a copy on the CPU whose weights are those of half precision."""
    copied = copy.deepcopy(network).eval().cpu()
    with torch.no_grad():
        for value in (*copied.parameters(), *copied.buffers()):
            if value.is_floating_point():
                value.copy_(value.half().float())
    return copied


def _architecture(network: nn.Module) -> dict[str, Any]:
    """Return the entry of ``config.yaml`` that the torch engine reads; none where it cannot make the network."""
    found = architecture_of(network)
    return {"network": found} if found else {}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _export_image_network(network: nn.Module, path: Path, output: str, input_size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, other = ({"image": torch.rand(1, 3, *input_size, generator=generator)} for _ in range(2))
    export_network(network, inputs, other, output, path, half=True)


def _export_planes(network: nn.Module, path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, other = (
        {name: torch.rand(1, 1, *size, generator=generator) for name in ("thermal", "luma")}
        for size in ((96, 128), (75, 61))
    )
    height, width = torch.export.Dim("height", min=16), torch.export.Dim("width", min=16)
    export_network(network, inputs, other, "fused", path, dynamic_shapes=[{2: height, 3: width}] * 2)
