import os

import numpy as np
import pytest
import yaml
from bench import Bench
from domain_coordinator import domain_id
from onnx import TensorProto, helper, numpy_helper

LABELS = ("person", "bicycle", "car")
KNOWN_OBJECTS = (("person", (100, 120, 40, 80), 0.9), ("car", (400, 300, 100, 50), 0.8))
"""Class, centre and size in pixels of a 640 x 480 image, score."""


@pytest.fixture(scope="module", autouse=True)
def ros_domain():
    """Give the module a ROS domain that no other test on this machine has, and keep its traffic on the machine."""
    with domain_id() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        if os.environ.get("ROS_DISTRO") == "humble":
            patch.setenv("ROS_LOCALHOST_ONLY", "1")
        else:
            patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield domain


@pytest.fixture
def bench():
    """Make fusion nodes with the given parameters, unconfigured, each with an observer."""
    made = []

    def make(**parameters):
        made.append(Bench({name.replace("__", "."): value for name, value in parameters.items()}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def active(bench):
    """Make an active fusion node that needs no network."""

    def make(**parameters):
        made = bench(**parameters)
        made.activate()
        return made

    return make


@pytest.fixture
def model_path(tmp_path, monkeypatch):
    """A folder of models that are found before the project's own."""
    monkeypatch.setenv("IRVF_MODEL_PATH", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def make_detector(model_path):
    """Write detectors of any labels, each of which sees the same objects in every 640 x 480 image."""

    def make(name, labels, objects):
        folder = model_path / name
        folder.mkdir()
        columns = []
        for label, (x, y, width, height), score in objects:
            columns.append([x, y, width, height, *(score if each == label else 0.0 for each in labels)])
        predictions = numpy_helper.from_array(np.array(columns, np.float32).T[None])
        graph = helper.make_graph(
            [helper.make_node("Constant", [], ["predictions"], value=predictions)],
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
            [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, 4 + len(labels), len(columns)])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (folder / "detector.onnx").write_bytes(model.SerializeToString())
        content = {
            "kind": "detector",
            "onnx": "detector.onnx",
            "licence": "Apache-2.0",
            "labels": list(labels),
            "input_size": [480, 640],
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(content))
        return name

    return make


@pytest.fixture
def known_detector(make_detector):
    """A detector that sees the same two objects in every 640 x 480 image: KNOWN_OBJECTS."""
    return make_detector("known", LABELS, KNOWN_OBJECTS)
