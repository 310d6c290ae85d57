"""A user's own network as the detector: every form must put one object, worked out by hand, where it is in the image.

The networks are ONNX files whose outputs follow from their input: what is seen of the object is its redness.
"""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest
import yaml
from fake_tensorrt import FakeGpu, World
from onnx import TensorProto, helper, numpy_helper

from irvf.engines import cuda_runtime
from irvf.engines.engine import EngineError
from irvf.engines.onnx_engine import OnnxEngine
from irvf.engines.tensorrt_engine import TensorRtEngine
from irvf.models import ModelError, Network
from irvf.perception.detector_files import load_detector, split_metadata
from irvf.perception.detector_labels import COCO_LABELS
from irvf.perception.heads import load_heads

NAMES = ("person", "bicycle", "car")
SIZE = (64, 96)
POINTS = 8 * 12 + 4 * 6 + 2 * 3
"""Cells of 8, 16 and 32 pixels in an input of 64 x 96."""
CENTERED = (48, 32, 24, 16)
CORNERS = (36, 24, 60, 40)
"""The object in pixels of the input; images here are twice as large."""
IN_IMAGE = (72, 48, 120, 80)
RED = np.full((128, 192, 3), (204, 0, 0), np.uint8)
"""Redness 0.8."""
BEFORE_SIGMOID = float(np.log(0.8 / 0.2))


def write(path, outputs, size=SIZE, *, metadata=None, nodes=(), inputs=(), returns=(), half=False):
    """Write a network with constant outputs, to some of whose numbers the redness of the image is added.

    ``outputs`` maps a name to a constant and where redness is added to it, 1 or 0, None for nowhere. With ``returns``
    these names are what the network returns, made by further ``nodes``.
    """
    kind, real = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    graph = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        constant("first", np.array([0])),
        helper.make_node("Gather", ["means", "first"], ["seen"], axis=1),
        helper.make_node("Squeeze", ["seen"], ["redness"]),
    ]
    values = {}
    for name, (base, mask) in outputs.items():
        array = base if base.dtype == np.int64 else base.astype(real)
        share = np.zeros_like(array) if mask is None else mask.astype(array.dtype)
        graph += [
            constant(f"{name} base", array),
            constant(f"{name} mask", share.astype(real)),
            helper.make_node("Mul", [f"{name} mask", "redness"], [f"{name} change"]),
        ]
        if array.dtype == np.int64:
            graph.append(helper.make_node("Identity", [f"{name} base"], [name]))
        else:
            graph.append(helper.make_node("Add", [f"{name} base", f"{name} change"], [name]))
        values[name] = value(name, array.shape, TensorProto.INT64 if array.dtype == np.int64 else kind)
    image = value("images", [1, 3, *(size or ("height", "width"))], kind)
    returned = [values.get(name, value(name, None, kind)) for name in returns or outputs]
    made = helper.make_graph([*graph, *nodes], "detector", [image, *inputs], returned)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, array):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


def rows(count, width, *objects, score_at=()):
    """Return ``count`` empty rows, of which the last are the objects, and where redness is added to them."""
    table, mask = np.zeros((1, count, width)), np.zeros((1, count, width))
    for number, row in enumerate(objects, start=1):
        table[0, -number, : len(row)] = row
        mask[0, -number, list(score_at)] = 1
    return table, mask


def turned(pair):
    return tuple(array.transpose(0, 2, 1) for array in pair)


def yolo8(*objects, classes=3, count=POINTS):
    return rows(count, 4 + classes, *(objects or (CENTERED,)), score_at=[5])


def queries(classes, *, softmax=False):
    """DETR's two outputs: 5 queries, the last of which sees a bicycle."""
    boxes = np.full((1, 5, 4), 0.25)
    boxes[0, -1] = np.divide(CENTERED, (96, 64, 96, 64))
    logits = np.full((1, 5, classes), -20.0)
    if softmax:
        logits[0, :, -1] = 20  # no object
        # With logits of 0 elsewhere, e^x / (e^x + K - 1) is the score; redness is added to ln(K - 1).
        logits[0, -1] = 0
        logits[0, -1, 1] = np.log(classes - 1)
    else:
        logits[0, -1, 1] = BEFORE_SIGMOID - 0.8
    mask = np.zeros_like(logits)
    mask[0, -1, 1] = 1
    return {"logits": (logits, mask), "pred_boxes": (boxes, None)}


FORMS = {
    "yolov8": ({"output0": turned(yolo8())}, 0.8, True),
    "yolov8 transposed": ({"output0": yolo8()}, 0.8, True),
    # Objectness 0.5, times a score of 0.8.
    "yolov5": ({"output0": rows(3 * POINTS, 8, (*CENTERED, 0.5), score_at=[6])}, 0.4, True),
    "end to end": ({"output0": rows(300, 6, (*CORNERS, 0, 1), score_at=[4])}, 0.8, False),
    "rtdetr of ultralytics": (
        {"output0": rows(300, 7, np.divide(CENTERED, (96, 64, 96, 64)), score_at=[5])}, 0.8, False,
    ),
    "rt-detr": (queries(3), 0.8, False),
    "detr": (queries(4, softmax=True), np.exp(0.8) / (np.exp(0.8) + 1), False),
}  # fmt: skip


class Loader:
    """Runs networks with onnxruntime and remembers the shapes that they were given."""

    def __init__(self):
        self.shapes, self.fed = [], []

    def __call__(self, network):
        self.engine = OnnxEngine(network.onnx if isinstance(network, Network) else network, 1)
        self.input_names, self.output_names = self.engine.input_names, self.engine.output_names
        self.description = self.engine.description
        return self

    def infer(self, inputs):
        self.fed.append(inputs)
        self.shapes.append(inputs[self.input_names[0]].shape)
        return self.engine.infer(inputs)


def load(path, loader=None, **flags):
    return load_detector(str(path), loader or Loader(), **flags)


def corners(found):
    return (found.box.x_min, found.box.y_min, found.box.x_max, found.box.y_max)


def name_classes(path, names=NAMES):
    path.with_name("labels.txt").write_text("\n".join(names) + "\n\n", "utf-8")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_puts_the_object_where_it_is(tmp_path, form):
    outputs, score, _ = FORMS[form]
    detector = load(write(name_classes(tmp_path / "own.onnx"), outputs))
    assert detector.labels == NAMES
    (found,) = detector.detect(RED)
    assert found.label == "bicycle"
    assert found.score == pytest.approx(score, abs=1e-4)
    assert corners(found) == pytest.approx(IN_IMAGE, abs=1e-3)
    assert detector.detect(RED, ("person", "car")) == ()
    assert len(detector.detect(RED, ("bicycle",))) == 1
    detector.score_threshold = score + 0.01
    assert detector.detect(RED) == ()


@pytest.mark.parametrize("form", FORMS)
def test_a_letterboxed_image_has_its_boxes_in_place(tmp_path, form):
    detector = load(write(name_classes(tmp_path / "own.onnx"), FORMS[form][0]))
    detector.score_threshold = 0.1
    # 64 x 64 lies in columns 16..80 of the input; grey beside it changes the redness.
    (found,) = detector.detect(np.full((64, 64, 3), (204, 0, 0), np.uint8))
    assert corners(found) == pytest.approx((20, 24, 44, 40), abs=1e-3)


@pytest.mark.parametrize("form", ["yolov8", "end to end"])
def test_doubles_are_suppressed_where_the_network_leaves_them(tmp_path, form):
    if form == "yolov8":
        outputs = {"output0": turned(yolo8(CENTERED, (49, 32, 24, 16)))}
    else:
        outputs = {"output0": rows(300, 6, (*CORNERS, 0, 1), (37, 24, 61, 40, 0, 1), score_at=[4])}
    detector = load(write(name_classes(tmp_path / "own.onnx"), outputs))
    assert len(detector.detect(RED)) == (1 if FORMS[form][2] else 2)


def deploy(path, kind=TensorProto.INT64):
    """RT-DETR's own export: boxes are shares times the size that it is told, width first."""
    share, scores = np.zeros((1, 5, 4)), np.zeros((1, 5))
    share[0, 2] = np.divide(CORNERS, (96, 64, 96, 64))
    mask = (np.arange(5) == 2)[None]
    outputs = {"labels": (np.array([[0, 0, 1, 0, 0]]), None), "share": (share, None), "scores": (scores, mask)}
    nodes = [
        helper.make_node("Cast", ["orig_target_sizes"], ["given"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["given", "given"], ["four"], axis=1),
        helper.make_node("Mul", ["share", "four"], ["boxes"]),
    ]
    inputs = [value("orig_target_sizes", [1, 2], kind)]
    return write(path, outputs, nodes=nodes, inputs=inputs, returns=("labels", "boxes", "scores"))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT])
def test_rt_detrs_deploy_form_is_told_the_size_of_its_input_width_first(tmp_path, kind):
    detector = load(deploy(name_classes(tmp_path / "own.onnx"), kind=kind))
    (found,) = detector.detect(RED)
    assert (found.label, found.score) == ("bicycle", pytest.approx(0.8, abs=1e-4))
    assert corners(found) == pytest.approx(IN_IMAGE, abs=1e-3)


def test_half_precision_goes_in_and_comes_out(tmp_path):
    outputs = {"output0": turned(yolo8())}
    (found,) = load(write(name_classes(tmp_path / "own.onnx"), outputs, half=True)).detect(RED)
    assert found.score == pytest.approx(0.8, abs=2e-3)
    assert corners(found) == pytest.approx(IN_IMAGE)


def test_a_pixel_mask_says_that_all_is_image(tmp_path):
    loader = Loader()
    mask = value("pixel_mask", [1, "rows", "columns"], TensorProto.INT64)
    # Nothing is seen where the mask is 0.
    nodes = [
        helper.make_node("Cast", ["pixel_mask"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["whole"], ["least"], keepdims=0),
        helper.make_node("Mul", ["seen logits", "least"], ["logits"]),
    ]
    outputs = queries(4, softmax=True)
    outputs = {"seen logits": outputs["logits"], "pred_boxes": outputs["pred_boxes"]}
    path = name_classes(tmp_path / "own.onnx")
    write(path, outputs, nodes=nodes, inputs=[mask], returns=("logits", "pred_boxes"))
    assert len(load(path, loader).detect(RED)) == 1
    given = loader.fed[-1]["pixel_mask"]
    assert given.shape == (1, *SIZE)
    assert given.all()


# What the file and its folder say.


def test_ultralytics_metadata_gives_names_and_size(tmp_path):
    metadata = {"names": "{0: 'door', 1: 'stair', 2: 'sign'}", "imgsz": "[64, 96]", "task": "detect", "stride": "32"}
    loader = Loader()
    path = write(name_classes(tmp_path / "own.onnx"), {"output0": turned(yolo8())}, size=None, metadata=metadata)
    detector = load(path, loader)
    assert detector.labels == ("door", "stair", "sign")
    assert [one.label for one in detector.detect(RED)] == ["stair"]
    assert loader.shapes[-1] == (1, 3, 64, 96)


def test_an_open_size_without_metadata_is_640(tmp_path):
    loader = Loader()
    load(write(name_classes(tmp_path / "own.onnx"), {"output0": turned(yolo8(count=8400))}, size=None), loader)
    assert loader.shapes == [(1, 3, 640, 640)]


def test_names_of_a_yaml_beside_the_file(tmp_path):
    path = write(tmp_path / "own.onnx", {"output0": turned(yolo8())})
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"nc": 3, "names": {0: "a", 1: "b", 2: "c"}}))
    assert load(path).labels == ("a", "b", "c")


@pytest.mark.parametrize("folder", ["", "onnx"])
def test_names_of_a_config_of_transformers(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"10": "k"} | {str(n): f"n{n}" for n in range(10)}}))
    path = write(tmp_path / folder / "model.onnx", queries(12, softmax=True))
    assert load(path).labels == (*(f"n{n}" for n in range(10)), "k")


def test_without_names_80_classes_are_cocos_and_others_numbers(tmp_path):
    path = tmp_path / "own.onnx"
    assert load(write(path, {"output0": turned(yolo8(classes=80, count=8400))}, (640, 640))).labels == COCO_LABELS
    assert load(write(path, queries(80))).labels == COCO_LABELS
    assert load(write(path, {"output0": turned(yolo8())})).labels == ("class_0", "class_1", "class_2")
    coco = {1: "person", 2: "bicycle", 18: "dog", 90: "toothbrush"}  # their numbers in the data set, which has gaps
    assert [COCO_LABELS[n] for n in (0, 1, 16, 79)] == list(coco.values())


def test_a_preprocessor_config_stretches_and_normalises(tmp_path):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    size = {"height": 64, "width": 96}
    content = {"size": size, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": mean}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content | {"image_std": std}))
    loader = Loader()
    detector = load(write(name_classes(tmp_path / "own.onnx"), queries(3), size=None), loader)
    detector.score_threshold = 0.1
    (found,) = detector.detect(np.full((64, 64, 3), (204, 51, 0), np.uint8))
    seen = (np.array([0.8, 0.2, 0]) - mean) / std
    np.testing.assert_allclose(
        loader.fed[-1]["images"], np.broadcast_to(seen[None, :, None, None], (1, 3, 64, 96)), rtol=1e-5
    )
    # 96 columns of the input are 64 of the image.
    assert corners(found) == pytest.approx((24, 24, 40, 40), abs=1e-3)
    assert found.score == pytest.approx(1 / (1 + np.exp(0.8 - BEFORE_SIGMOID - seen[0])), abs=1e-4)


# What is refused, and how.


def refusal(path, error=ValueError, **flags):
    with pytest.raises(error) as raised:
        load(path, **flags)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"fused": (np.zeros((1, 1, 64, 96)), None)}, r"fused \[1, 1, 64, 96\].*Known: .*YOLOv8"),
        ({"boxes": (np.zeros((1, 126, 4)), None), "scores": (np.zeros((1, 126, 3)), None)}, "boxes .*scores"),
        ({"output0": turned(yolo8(classes=9))}, r"output0 \[1, 13, 126\].*names of 3 classes"),
        ({"output0": turned(yolo8()), "output1": (np.zeros((1, 32, 16, 24)), None)}, "output1"),
        (queries(7), r"logits \[1, 5, 7\].*for 3 classes"),
        ({"output0": rows(300, 38)}, r"\[1, 300, 38\]"),
    ],
)
def test_other_networks_are_refused_by_what_they_return(tmp_path, outputs, said):
    path = write(name_classes(tmp_path / "own.onnx"), outputs)
    message = refusal(path)
    assert re.search(said, message), message
    assert str(path) in message


def test_what_is_ambiguous_without_names_asks_for_them(tmp_path):
    path = tmp_path / "own.onnx"
    assert "labels.txt" in refusal(write(path, queries(4)))
    assert "labels.txt" in refusal(write(path, {"output0": rows(300, 6)}))
    assert "labels.txt" in refusal(write(path, {"output0": yolo8()}))  # 3 classes, or 2 with objectness
    assert "labels.txt" in refusal(deploy(path))


def test_six_numbers_are_told_apart_by_how_many_there_are(tmp_path):
    path = name_classes(tmp_path / "own.onnx", ["person"])
    # One class with objectness at three anchors for each point; or a list of objects, whose fifth number is the score.
    table, mask = rows(3 * POINTS, 6, (*CENTERED, 0.5), score_at=[5])
    assert load(write(path, {"output0": (table, mask)})).detect(RED)[0].score == pytest.approx(0.4, abs=1e-4)
    table, mask = rows(300, 6, (*CORNERS, 0, 0), score_at=[4])
    (found,) = load(write(path, {"output0": (table, mask)})).detect(RED)
    assert corners(found) == pytest.approx(IN_IMAGE)
    path = name_classes(tmp_path / "own.onnx", ["person", "car"])
    (found,) = load(write(path, {"output0": rows(POINTS, 6, CENTERED, score_at=[5])})).detect(RED)
    assert (found.label, corners(found)) == ("car", pytest.approx(IN_IMAGE))


def test_a_class_without_a_name_is_an_error(tmp_path):
    detector = load(
        write(name_classes(tmp_path / "own.onnx"), {"output0": rows(300, 6, (*CORNERS, 0, 3), score_at=[4])})
    )
    with pytest.raises(EngineError, match=r"class 3.*names of 3"):
        detector.detect(RED)


@pytest.mark.parametrize("form", FORMS)
def test_single_numbers_that_are_not_finite_cost_only_their_object(tmp_path, form):
    outputs = {name: (base.copy(), mask) for name, (base, mask) in FORMS[form][0].items()}
    base = next(iter(outputs.values()))[0]
    base[0, 0, 0] = np.nan
    found = load(write(name_classes(tmp_path / "own.onnx"), outputs)).detect(RED)
    assert [one.label for one in found] == ["bicycle"]
    base[...] = np.nan
    assert "NaN" in refusal(write(name_classes(tmp_path / "own.onnx"), outputs), EngineError)


STAND_IN = """
import torch

__version__ = "0"


class Head(torch.nn.Module):
    pass


class Network(torch.nn.Module):
    # One object, as red as the image; with it what training needs, as the real one returns it.
    def __init__(self):
        super().__init__()
        self.model = [torch.nn.Identity(), Head()]
        self.is_fused = False

    def fuse(self):
        self.is_fused = True
        return self

    def forward(self, images):
        assert self.is_fused and not self.training
        table = torch.zeros(1, 7, 126)
        table[0, :, 5] = torch.tensor([48.0, 32.0, 24.0, 16.0, 0.0, 0.0, 0.0])
        table[0, 5, 5] = images[:, 0].mean()
        return table, {"one2many": images}


class YOLO:
    def __init__(self, path):
        if b"broken" in open(path, "rb").read():
            raise EOFError("Ran out of input")
        self.model, self.names, self.task = Network(), {0: "door", 1: "stair", 2: "sign"}, "detect"
        self.overrides = {"imgsz": [64, 96]}
"""


@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is not None, reason="it is installed")
def test_a_pt_file_is_read_as_its_network(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ultralytics.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    path = tmp_path / "own.pt"
    path.write_bytes(b"a network")
    try:
        detector = load(path, allow_pickle=True)
        (found,) = detector.detect(RED)
        assert (found.label, found.score) == ("stair", pytest.approx(0.8, abs=1e-4))
        assert corners(found) == pytest.approx(IN_IMAGE)
        path.write_bytes(b"broken")
        assert "Ran out of input" in refusal(path, ModelError, allow_pickle=True)
    finally:
        sys.modules.pop("ultralytics", None)


def test_rt_detr_of_ultralytics_says_in_its_metadata_that_its_list_has_centres(tmp_path):
    metadata = {"head": "RTDETRDecoder", "names": str(dict(enumerate(NAMES))), "description": "Ultralytics model"}
    row = (*np.divide(CENTERED, (96, 64, 96, 64)), 0, 1)
    path = write(tmp_path / "own.onnx", {"output0": rows(300, 6, row, score_at=[4])}, metadata=metadata)
    assert corners(load(path).detect(RED)[0]) == pytest.approx(IN_IMAGE, abs=1e-3)
    # And ultralytics stretches images for it: 96 columns of the input are 64 of the image.
    (found,) = load(path).detect(RED[:64, :64])
    assert corners(found) == pytest.approx((24, 24, 40, 40), abs=1e-3)


def test_a_segmentation_of_ultralytics_is_refused_by_its_task(tmp_path):
    metadata = {"task": "segment", "names": "{0: 'a', 1: 'b', 2: 'c'}"}
    assert "'segment'" in refusal(write(tmp_path / "own.onnx", {"output0": turned(yolo8())}, metadata=metadata))


def test_inputs_of_another_kind_are_refused(tmp_path):
    path = name_classes(tmp_path / "own.onnx")
    write(path, {"output0": turned(yolo8())}, inputs=[value("scale_factor", [1, 2])])
    assert "scale_factor [1, 2] float32" in refusal(path)


def test_files_that_are_not_there_or_are_broken(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.onnx", ModelError)
    assert "no such file" in refusal(tmp_path / "none.pt", ModelError)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    assert str(broken) in refusal(broken, EngineError)
    path = write(tmp_path / "own.onnx", {"output0": turned(yolo8())})
    for content in ("names: 3", "names: {1: a, 2: b}", "[", "- a"):
        path.with_suffix(".yaml").write_text(content)
        assert str(path.with_suffix(".yaml")) in refusal(path, ModelError)
    path.with_suffix(".yaml").unlink()
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"area": 5}, "image_mean": [0, 0, 0]}')
    assert "preprocessor_config.json" in refusal(path, ModelError)


@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is not None, reason="it is installed")
def test_a_pt_file_without_ultralytics_says_what_to_install(tmp_path):
    path = tmp_path / "own.pt"
    path.write_bytes(b"never read")
    message = refusal(path, ModelError, allow_pickle=True)
    assert "pip install ultralytics" in message
    assert "format=onnx" in message


def test_heads_take_a_file_where_they_took_a_folder(tmp_path):
    path = write(name_classes(tmp_path / "own.onnx"), FORMS["rt-detr"][0])
    heads = load_heads(str(path), "", "", Loader())
    heads.warm_up((240, 320))
    assert [one.label for one in heads.detection.detect(RED)] == ["bicycle"]


# TensorRT's files.


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Return a function that builds a network on the fake TensorRT and returns the engine's bytes."""
    world = World("10.16", FakeGpu())
    monkeypatch.setitem(sys.modules, "tensorrt", world.trt)
    monkeypatch.setattr(cuda_runtime, "_find_library", lambda: world.gpu)

    def build(onnx):
        file = TensorRtEngine(onnx, cache_folder=tmp_path / "cache").file
        return file.read_bytes().partition(b"\n")[2]  # behind the cache's own line

    yield build
    assert world.gpu.violations == []


@pytest.mark.parametrize("suffix", [".engine", ".plan"])
@pytest.mark.parametrize("prefixed", [True, False])
def test_an_engine_of_tensorrt_is_read_as_its_network(tmp_path, plan, suffix, prefixed):
    content = plan(write(tmp_path / "own.onnx", FORMS["yolov8"][0]))
    if prefixed:
        about = json.dumps({"names": {"0": "door", "1": "stair", "2": "sign"}, "imgsz": [64, 96]}).encode()
        content = len(about).to_bytes(4, "little") + about + content
    else:
        name_classes(tmp_path / "own.onnx", ["door", "stair", "sign"])
    path = tmp_path / f"built{suffix}"
    path.write_bytes(content)

    def never(_):
        raise AssertionError("an engine file needs no other engine")

    (found,) = load_detector(str(path), never).detect(RED)
    assert (found.label, found.score) == ("stair", pytest.approx(0.8, abs=1e-5))
    assert corners(found) == pytest.approx(IN_IMAGE)


def test_an_engine_that_tensorrt_does_not_take_is_an_error(tmp_path, plan):
    path = tmp_path / "own.engine"
    path.write_bytes(plan(write(tmp_path / "own.onnx", FORMS["yolov8"][0])).replace(b"10.16", b"10.15"))
    assert "that built it" in refusal(path, EngineError)


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\x05\x00\x00\x00[1,2]plan", b"\x00\x00\x00\x00plan", bytes(range(40))]
)
def test_what_is_no_metadata_stays_part_of_the_engine(content):
    assert split_metadata(content) == ({}, content)
