"""Small networks that run as the shipped ones do, and whose outputs follow from their inputs by a formula."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

CLASSES = ("background", "person", "bicycle", "car")
THERMAL_SHARES = {"detection": 1.0, "segmentation": 0.75, "saliency": 0.5, "viewing": 0.0}
"""What the known fusion takes of the thermal plane under each task; luma gives the rest."""
WORDS = {"detection": "detection", "detect": "detection", "box": "detection", "segmentation": "segmentation"}
WORDS |= {"segment": "segmentation", "saliency": "saliency", "viewing": "viewing", "anything": "detection"}
"""Words of the known text encoder, each as near to its task as can be. It reads no other word."""


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, array):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))


def write_network(path, nodes, inputs, outputs):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def write_config(folder, **content):
    (folder / "config.yaml").write_text(yaml.safe_dump({"licence": "Apache-2.0", **content}))


def write_segmentation(folder, input_size=(480, 640), stride=2):
    """A class is where its channel is brighter than one half and than the others: red person, green, blue car."""
    weight = np.vstack((np.zeros(3), np.eye(3))).astype(np.float32)[..., None, None]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["small"], kernel_shape=[stride] * 2, strides=[stride] * 2),
        constant("weight", weight),
        constant("bias", np.array([0.5, 0, 0, 0], np.float32)),
        helper.make_node("Conv", ["small", "weight", "bias"], ["logits"]),
    ]
    shape = [1, len(CLASSES), *(side // stride for side in input_size)]
    write_network(folder / "segmentation.onnx", nodes, [value("image", [1, 3, *input_size])], [value("logits", shape)])
    size = list(input_size)
    write_config(folder, kind="segmentation", onnx="segmentation.onnx", labels=list(CLASSES), input_size=size)


def write_saliency(folder, input_size=(480, 640), stride=4):
    """What is bright is salient: the mean of red, green and blue."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["small"], kernel_shape=[stride] * 2, strides=[stride] * 2),
        helper.make_node("ReduceMean", ["small"], ["saliency"], axes=[1], keepdims=1),
    ]
    shape = [1, 1, *(side // stride for side in input_size)]
    write_network(folder / "saliency.onnx", nodes, [value("image", [1, 3, *input_size])], [value("saliency", shape)])
    write_config(folder, kind="saliency", onnx="saliency.onnx", input_size=list(input_size))


def write_text_encoder(folder):
    """The mean of the words' axes, one axis for each task."""
    tasks = list(THERMAL_SHARES)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, **{word: n for n, word in enumerate(WORDS, 1)}}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.zeros((len(WORDS) + 1, len(tasks)), np.float32)
    for number, task in enumerate(WORDS.values(), start=1):
        table[number, tasks.index(task)] = 1
    nodes = [
        constant("table", table),
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        constant("last", np.array([2], np.int64)),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["words", "weights"], ["read"]),
        helper.make_node("ReduceMean", ["read"], ["sentence_embedding"], axes=[1], keepdims=0),
    ]
    inputs = [value(name, [1, "length"], TensorProto.INT64) for name in ("input_ids", "attention_mask")]
    write_network(folder / "encoder.onnx", nodes, inputs, [value("sentence_embedding", [1, len(tasks)])])
    write_config(folder, kind="text_encoder", onnx="encoder.onnx", tokenizer="tokenizer.json", width=len(tasks))


def write_fusion(folder, text_encoder):
    """Luma and thermal mixed: fused = luma + share (thermal - luma), the share being the largest of the prompt."""
    tasks = list(THERMAL_SHARES)
    nodes = [
        helper.make_node("ReduceMax", ["prompt"], ["share"], keepdims=0),
        helper.make_node("Sub", ["thermal", "luma"], ["difference"]),
        helper.make_node("Mul", ["difference", "share"], ["change"]),
        helper.make_node("Add", ["luma", "change"], ["fused"]),
    ]
    planes = [value(name, [1, 1, "height", "width"]) for name in ("thermal", "luma", "fused")]
    write_network(folder / "fusion.onnx", nodes, [*planes[:2], value("prompt", [2, 9])], planes[2:])
    identity = np.eye(len(tasks))
    tensors = {f"centroids.{task}": identity[number] for number, task in enumerate(tasks)}
    layers = {"adapter.0": identity, "adapter.1": identity}
    for branch in ("thermal", "luma"):
        layers[f"{branch}.0.predictor.0"] = np.hstack((np.zeros((len(tasks), 2)), identity))
        layers[f"{branch}.0.predictor.1"] = np.vstack((np.zeros((8, len(tasks))), [*THERMAL_SHARES.values()]))
    for name, weight in layers.items():
        tensors |= {f"regulation.{name}.weight": weight, f"regulation.{name}.bias": np.zeros(len(weight))}
    save_file({name: array.astype(np.float16) for name, array in tensors.items()}, folder / "fusion.safetensors")
    files = {"onnx": "fusion.onnx", "weights": "fusion.safetensors", "text_encoder": str(text_encoder)}
    write_config(folder, kind="fusion", **files)


def write_base(folder):
    """The mean of thermal and luma, whatever the instruction."""
    nodes = [helper.make_node("Mean", ["thermal", "luma"], ["fused"])]
    planes = [value(name, [1, 1, "height", "width"]) for name in ("thermal", "luma", "fused")]
    write_network(folder / "fusion.onnx", nodes, planes[:2], planes[2:])
    write_config(folder, kind="fusion", onnx="fusion.onnx")


@pytest.fixture(scope="session")
def known_models(tmp_path_factory):
    """Paths of model folders: segmentation, saliency, text_encoder, a fusion that instructions change, and base."""
    root = tmp_path_factory.mktemp("known_models")
    folders = {name: root / name for name in ("segmentation", "saliency", "text_encoder", "fusion", "base")}
    for folder in folders.values():
        folder.mkdir()
    write_segmentation(folders["segmentation"])
    write_saliency(folders["saliency"])
    write_text_encoder(folders["text_encoder"])
    write_fusion(folders["fusion"], folders["text_encoder"])
    write_base(folders["base"])
    return SimpleNamespace(**{name: str(folder) for name, folder in folders.items()})
