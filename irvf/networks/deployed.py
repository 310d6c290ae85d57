"""Networks as they are deployed, made of the weights in a model folder: what the folder's ONNX is, in torch.

``config.yaml`` names the network and its measures under ``network``, as in ``{name: base_fusion, channels: 8,
blocks: 4, feature_fusion: true}``; :func:`architecture_of` is what the exporters write there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from irvf.networks.base_fusion import MIN_SIDE, BaseFusionNetwork
from irvf.networks.box_detector import BoxDetectorNetwork, DeployedBoxDetector
from irvf.networks.prompt_injection import StaticInjection
from irvf.networks.realtime_fusion import BLOCK_SIDE, FoldedRealtimeNetwork, RealtimeFusionNetwork
from irvf.networks.salient_object import DeployedSaliencyNetwork, SaliencyNetwork
from irvf.networks.segmentation_unet import SegmentationNetwork
from irvf.networks.task_regulation import FoldedFusionNetwork, RegulatedFusionNetwork, TaskOrientedRegulation

ANY = -1
"""A side of an input that may have any size."""
IMAGE_MULTIPLE = 32
"""Of which height and width of images must be multiples: the coarsest features' stride."""
_LARGEST = 4096
"""More channels or blocks than any network here could have; larger values are typing errors."""


@dataclass(frozen=True)
class Input:
    """What an input of a network must be like.

    Attributes:
        shape: of the float32 array; sides that are :data:`ANY` are free.
        multiple: of which the free sides must be multiples.
        smallest: value of the free sides.
    """

    shape: tuple[int, ...]
    multiple: int = 1
    smallest: int = 1


class DeployedNetwork(nn.Module):
    """A network that takes what its ONNX takes, in evaluation mode.

    Attributes:
        inputs: by the names and in the order of the ONNX; the free sides of all are the same.
        output: name of what it returns.

    Args:
        network: takes the inputs, returns a tensor.
        inputs: see above.
        output: see above.
    """

    def __init__(self, network: nn.Module, inputs: Mapping[str, Input], output: str) -> None:
        super().__init__()
        self.network, self.inputs, self.output = network, dict(inputs), output

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the network on its inputs, in their order."""
        result: Tensor = self.network(*inputs)
        return result


def load_network(weights: Path, architecture: Mapping[str, Any]) -> DeployedNetwork:
    """Make the network of a model folder.

    Its batch normalisations are folded into the convolutions before them; weights, which are stored in half precision,
    are raised to float32.

    Args:
        weights: ``*.safetensors`` of the folder.
        architecture: ``network`` of its ``config.yaml``: name, and all arguments that this network has.

    Raises:
        ValueError: an unknown network, arguments that it does not have, or weights of another one.
        OSError: the file cannot be read.
    """
    form, arguments = _parse(architecture)
    with torch.device("meta"):  # takes no memory and no time; the tensors come from the file
        network = form.build(arguments).eval()
    _fill(network, weights)
    return DeployedNetwork(_fold_normalizations(form.deploy(network)).eval(), form.inputs(network), form.output)


def architecture_of(network: nn.Module) -> dict[str, Any] | None:
    """Return what :func:`load_network` makes such a network of; None for one that it cannot make, as the ablations."""
    if isinstance(network, RegulatedFusionNetwork):
        injections = [*network.regulation.thermal, *network.regulation.luma]
        if isinstance(network.base.fusion, nn.Identity) or any(isinstance(one, StaticInjection) for one in injections):
            return None
        if not all(one.image_statistics for one in injections):
            return None
    for name, form in _FORMS.items():
        if type(network) is form.kind:
            return {"name": name, **form.measure(network)}
    return None


@dataclass(frozen=True)
class _Form:
    """One of the networks that there are.

    Attributes:
        kind: its class.
        arguments: smallest value of each number; None for what is true or false.
        build: makes it, untrained.
        measure: reads the arguments from one.
        deploy: makes what takes the inputs of it.
        inputs: what these are.
        output: name of what it returns.
    """

    kind: type[nn.Module]
    arguments: Mapping[str, int | None]
    build: Callable[[Mapping[str, Any]], nn.Module]
    measure: Callable[[Any], dict[str, Any]]
    deploy: Callable[[Any], nn.Module]
    inputs: Callable[[Any], Mapping[str, Input]]
    output: str


def _parse(architecture: Mapping[str, Any]) -> tuple[_Form, dict[str, Any]]:
    arguments = dict(architecture)
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in _FORMS:
        raise ValueError(f"no network {name!r}; allowed: {', '.join(_FORMS)}")
    form = _FORMS[name]
    if set(arguments) != set(form.arguments):
        raise ValueError(
            f"the network {name} takes {', '.join(form.arguments)}, not {', '.join(map(str, arguments)) or 'nothing'}"
        )
    for key, smallest in form.arguments.items():
        found = arguments[key]
        if smallest is None:
            if not isinstance(found, bool):
                raise ValueError(f"{key} of the network {name} must be true or false, not {found!r}")
        elif not isinstance(found, int) or isinstance(found, bool) or not smallest <= found <= _LARGEST:
            raise ValueError(f"{key} of the network {name} must be in {smallest}..{_LARGEST}, not {found!r}")
    return form, arguments


def _fill(network: nn.Module, weights: Path) -> None:
    """Give a network the tensors of a file, which must be exactly its own."""
    if not weights.is_file():
        raise FileNotFoundError(f"no file {weights}; copy the whole model folder again")
    try:
        stored = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} is no safetensors file: {error}") from error
    # Which task a text means is not the network's business, but lies in the same file.
    stored = {name: tensor for name, tensor in stored.items() if not name.startswith("centroids.")}
    wanted = network.state_dict()
    differing = sorted(set(wanted) ^ set(stored)) or [
        name for name, tensor in wanted.items() if stored[name].shape != tensor.shape
    ]
    if differing:
        raise ValueError(
            f"{weights} holds the weights of another network than config.yaml says: {differing[0]} "
            f"is {_shape(stored.get(differing[0]))} in the file, and {_shape(wanted.get(differing[0]))} in the network"
        )
    raised = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    network.load_state_dict(raised, assign=True)
    network.requires_grad_(requires_grad=False)


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))


def _fold_normalizations(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            first, second = module[index], module[index + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[index], module[index + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return network


def _planes(multiple: int = 1) -> dict[str, Input]:
    return {name: Input((1, 1, ANY, ANY), multiple, MIN_SIDE) for name in ("thermal", "luma")}


def _planes_and_prompt(injections: Iterable[Any], multiple: int = 1) -> dict[str, Input]:
    widths = [module.predictor[1].out_features for module in injections]
    return {**_planes(multiple), "prompt": Input((len(widths), widths[0]))}


def _image(_: nn.Module) -> dict[str, Input]:
    return {"image": Input((1, 3, ANY, ANY), IMAGE_MULTIPLE, IMAGE_MULTIPLE)}


def _base_measures(network: BaseFusionNetwork) -> dict[str, Any]:
    block: Any = network.decoder[0]
    return {"channels": block.first[0].out_channels // 2, "blocks": len(network.decoder)}


def _build_regulated(arguments: Mapping[str, Any]) -> RegulatedFusionNetwork:
    channels, blocks = arguments["channels"], arguments["blocks"]
    regulation = TaskOrientedRegulation(arguments["text_width"], channels, blocks)
    return RegulatedFusionNetwork(BaseFusionNetwork(channels, blocks), regulation)


_FORMS = {
    "base_fusion": _Form(
        BaseFusionNetwork,
        {"channels": 2, "blocks": 1, "feature_fusion": None},
        lambda arguments: BaseFusionNetwork(**arguments),
        lambda network: {
            **_base_measures(network),
            "feature_fusion": not isinstance(network.fusion, nn.Identity),
        },
        lambda network: network,
        lambda _: _planes(),
        "fused",
    ),
    "regulated_fusion": _Form(
        RegulatedFusionNetwork,
        {"text_width": 1, "channels": 2, "blocks": 2},
        _build_regulated,
        lambda network: {
            "text_width": network.regulation.adapter[0].in_features,
            **_base_measures(network.base),
        },
        FoldedFusionNetwork,
        lambda network: _planes_and_prompt([*network.regulation.thermal, *network.regulation.luma]),
        "fused",
    ),
    "realtime_fusion": _Form(
        RealtimeFusionNetwork,
        {"text_width": 1, "channels": 1, "blocks": 1},
        lambda arguments: RealtimeFusionNetwork(**arguments),
        lambda network: {
            "text_width": network.regulation.adapter[0].in_features,
            "channels": network.head.out_channels,
            "blocks": len(network.body),
        },
        FoldedRealtimeNetwork,
        lambda network: _planes_and_prompt(network.regulation.trunk, BLOCK_SIDE),
        "fused",
    ),
    "box_detector": _Form(
        BoxDetectorNetwork,
        {"classes": 1, "head_width": 1},
        lambda arguments: BoxDetectorNetwork(**arguments),
        lambda network: {
            "classes": network.class_head[0][-1].out_channels,
            "head_width": network.class_head[0][-1].in_channels,
        },
        DeployedBoxDetector,
        _image,
        "predictions",
    ),
    "segmentation_unet": _Form(
        SegmentationNetwork,
        {"classes": 1},
        lambda arguments: SegmentationNetwork(**arguments),
        lambda network: {"classes": network.head.out_channels},
        lambda network: network,
        _image,
        "logits",
    ),
    "salient_object": _Form(
        SaliencyNetwork,
        {"path": 1},
        lambda arguments: SaliencyNetwork(**arguments),
        lambda network: {"path": network.border_head.in_channels},
        DeployedSaliencyNetwork,
        _image,
        "saliency",
    ),
}
"""By the name in ``config.yaml``."""
