"""8 bits: what is rounded and what is not, how far, and that a model folder only gets what is as good."""

import shutil

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from irvf.cli.__main__ import main
from irvf.engines.factory import EngineOptions, create_engine
from irvf.evaluation import int8_export
from irvf.evaluation.int8_export import Figure, too_much
from irvf.models import Network, load_model
from irvf.training.activation_quantization import quantize_activations


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [{"image": rng.random((1, 3, 64, 96), np.float32)} for _ in range(4)]


@pytest.fixture(scope="module")
def network(exported, images, tmp_path_factory):
    onnx_file = exported.root / "detector" / "detector.onnx"
    int8 = tmp_path_factory.mktemp("int8") / "detector.int8.onnx"
    quantize_activations(onnx_file, int8, images)
    return Network(onnx_file, int8)


def run(network, precision, inputs, engine="openvino"):
    return create_engine(engine, network, 1, EngineOptions(precision)).infer(inputs)["predictions"]


def test_inner_convolutions_multiply_int8_with_a_scale_for_each_channel(network):
    graph = onnx.load(network.int8).graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    rounded = {
        node.name: node for node in graph.node
        if node.op_type == "Conv" and makers.get(node.input[0], node).op_type == "DequantizeLinear"
    }  # fmt: skip
    plain = [node for node in graph.node if node.op_type == "Conv" and node.name not in rounded]
    for node in rounded.values():
        weights, scale, zero = (constants[name] for name in makers[node.input[1]].input)
        assert weights.dtype == np.int8
        assert scale.shape == (weights.shape[0],)
        assert not zero.any()
        activation = constants[makers[node.input[0]].input[2]]
        assert activation.dtype == np.int8
        assert not activation.any()
    # The stem sees the image, two convolutions on each of three levels make classes and boxes.
    widths = sorted(constants[node.input[1]].shape[:2] for node in plain)
    assert widths == [(3, 64)] * 3 + [(4, 64)] * 3 + [(16, 3)]
    assert len(rounded) > 20


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_result_is_nearly_the_same_and_not_the_same(network, images, engine):
    exact, rounded = (run(network, precision, images[1], engine) for precision in ("fp32", "int8"))
    error = np.abs(exact - rounded).mean() / np.abs(exact - exact.mean()).mean()
    assert 0 < error < 0.1


def test_it_holds_at_other_sizes(network):
    image = {"image": np.random.default_rng(5).random((1, 3, 96, 64), np.float32)}
    exact, rounded = (run(network, precision, image) for precision in ("fp32", "int8"))
    assert exact.shape == rounded.shape
    assert np.abs(exact - rounded).mean() / np.abs(exact - exact.mean()).mean() < 0.15


def test_auto_takes_8_bits_where_they_are_faster(network, images):
    for engine, precision in (("openvino", "int8"), ("onnxruntime", "fp32"), ("auto", "int8")):
        found = create_engine(engine, network, 1).infer(images[0])["predictions"]
        runs = "openvino" if engine == "auto" else engine
        np.testing.assert_array_equal(found, run(network, precision, images[0], runs))


def test_a_network_without_8_bits_runs_in_32(network, images):
    plain = Network(network.onnx)
    np.testing.assert_array_equal(run(plain, "int8", images[0]), run(network, "fp32", images[0]))


@pytest.mark.parametrize("samples", [[], None], ids=["no samples", "nothing to round"])
def test_what_cannot_be_quantised_is_said(tmp_path, exported, images, samples):
    source = exported.root / "detector" / "detector.onnx"
    if samples is None:
        source = tmp_path / "flat.onnx"
        weight = np.ones((1, 3, 1, 1), np.float32)
        node = onnx.helper.make_node("Conv", ["image", "w"], ["out"], name="only")
        made = [
            onnx.helper.make_tensor_value_info(name, 1, [1, depth, 8, 8]) for name, depth in (("image", 3), ("out", 1))
        ]
        graph = onnx.helper.make_graph([node], "g", made[:1], made[1:], [numpy_helper.from_array(weight, "w")])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), source)
        samples = [{"image": np.zeros((1, 3, 8, 8), np.float32)}]
    with pytest.raises(ValueError, match=r"samples|no convolution"):
        quantize_activations(source, tmp_path / "out.onnx", samples)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("name", "fp32", "int8", "refused"),
    [
        ("SSIM, viewing", 0.7, 0.692, True),
        ("SSIM, viewing", 0.7, 0.694, False),
        ("mAP50-95", 0.3, 0.296, True),
        ("mAP50-95", 0.3, 0.31, False),
        ("mAP50", 0.6, 0.3, False),  # said, not judged
        ("Q_AB/F, detection", 0.5, float("nan"), True),
    ],
)
def test_one_percent_of_any_judged_figure_is_the_most(name, fp32, int8, refused):
    assert bool(too_much([Figure(name, fp32, int8)])) == refused


@pytest.fixture
def fusion(tmp_path):
    """Return a copy of the real-time model without its 8 bits."""
    folder = tmp_path / "models" / "realtime"
    shutil.copytree(load_model("realtime", "fusion").path, folder)
    (folder / "fusion.int8.onnx").unlink(missing_ok=True)
    content = yaml.safe_load((folder / "config.yaml").read_text())
    content.pop("int8", None)
    content["digests"].pop("fusion.int8.onnx", None)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.parametrize(("allowed", "code"), [(0.5, 0), (-0.5, 1)], ids=["good enough", "not good enough"])
def test_the_command_adds_8_bits_that_are_good_enough(fusion, allowed, code, monkeypatch, capsys, pair_folder):
    monkeypatch.setattr(int8_export, "LARGEST_LOSS", allowed)
    before = {path.name: path.read_bytes() for path in fusion.iterdir()}
    data = pair_folder(names=("a", "b", "c", "d"), size=(96, 128))
    assert main(["export", "int8", str(fusion), "--data", str(data), "--from", "street=d"]) == code
    said = capsys.readouterr()
    assert "SSIM, saliency" in said.out
    if code:
        assert "nothing written" in said.err
        assert {path.name: path.read_bytes() for path in fusion.iterdir()} == before
    else:
        assert load_model(str(fusion), "fusion").network.int8 == fusion / "fusion.int8.onnx"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["saliency"], "8 bits are for fusions and detectors"), (["realtime", "--from", "street"], "SET=NAME")],
)
def test_the_command_says_what_it_cannot_do(arguments, expected, capsys, pair_folder):
    data = pair_folder()
    model, *given = arguments
    assert main(["export", "int8", model, "--data", str(data), *(given or ["--from", "street=c"])]) == 2
    assert expected in capsys.readouterr().err
