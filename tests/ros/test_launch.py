"""The launch file and the parameter file beside it."""

import ast
import importlib.util
import py_compile
from pathlib import Path

import pytest
import yaml
from rclpy.parameter import Parameter

from irvf_fusion_node.parameters import PARAMETERS, check_value

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCH_FILE = REPOSITORY / "launch" / "fusion.launch.py"
ARGUMENTS = {
    *("namespace", "thermal_topic", "rgb_topic", "rgb_camera_info_topic", "params_file"),
    *("model", "engine", "use_sim_time", "autostart", "log_level"),
}


def shipped_parameters():
    content = yaml.safe_load((REPOSITORY / "config" / "fusion.yaml").read_text("utf-8"))
    ((_pattern, section),) = content.items()
    return section["ros__parameters"]


@pytest.mark.parametrize("name", shipped_parameters())
def test_the_parameter_file_holds_known_parameters_within_their_range(name):
    value = shipped_parameters()[name]
    spec = PARAMETERS[name]
    # ROS refuses an integer where a float is declared, and the other way round.
    assert Parameter(name, value=value).type_ == Parameter(name, value=spec.default).type_
    assert check_value(name, value) == ""
    if spec.low is not None:
        assert spec.low <= value <= spec.high


def test_the_launch_file_compiles_and_names_parameters_of_the_node(tmp_path):
    py_compile.compile(str(LAUNCH_FILE), cfile=str(tmp_path / "launch.pyc"), doraise=True)
    # Without the launch packages the file can still be read.
    tree = ast.parse(LAUNCH_FILE.read_text("utf-8"))
    (arguments,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["ARGUMENTS"]
    ]
    names = {ast.literal_eval(key) for key in arguments.keys}
    assert names == ARGUMENTS
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    topics = ("thermal/image_raw", "rgb/image_raw", "rgb/camera_info")
    assert {*topics, "irvf_fusion_node", "model", "engine", "autostart"} <= texts


@pytest.fixture
def launch_file():
    reason = "launch and launch_ros come with an installed ROS 2 and are not on PyPI"
    pytest.importorskip("launch", reason=reason)
    pytest.importorskip("launch_ros", reason=reason)
    spec = importlib.util.spec_from_file_location("fusion_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_launch_argument_is_described_and_has_a_default(launch_file):
    description = launch_file.generate_launch_description()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(arguments) == ARGUMENTS
    for argument in arguments.values():
        assert len(argument.description) > 10
        assert argument.default_value is not None


def test_one_lifecycle_node_is_started(launch_file):
    import launch  # noqa: PLC0415 - not everywhere to be had

    context = launch.LaunchContext()
    defaults = {name: default for name, (default, _) in launch_file.ARGUMENTS.items()}
    context.launch_configurations.update({**defaults, "params_file": str(REPOSITORY / "config" / "fusion.yaml")})
    (node,) = launch_file.start_node(context)
    assert (node.node_package, node.node_executable) == ("irvf", "irvf_fusion_node")


@pytest.mark.parametrize(("image", "info"), [("/cam/image", "/cam/camera_info"), ("image", "camera_info")])
def test_camera_info_is_looked_for_beside_the_images(launch_file, image, info):
    assert launch_file.beside(image) == info


def test_only_what_is_given_overrides_the_parameter_file(launch_file, tmp_path):
    nothing = dict.fromkeys(("model", "engine", "use_sim_time", "autostart"), "")
    assert launch_file.given_parameters(nothing) == {}
    given = {**nothing, "model": "max", "autostart": "False"}
    assert launch_file.given_parameters(given) == {"model": "max", "autostart": False}
    with pytest.raises(ValueError, match="use_sim_time:=maybe"):
        launch_file.given_parameters({**nothing, "use_sim_time": "maybe"})
    file = tmp_path / "mine.yaml"
    file.write_text("/fusion:\n  irvf_fusion_node:\n    ros__parameters: {autostart: false}\n")
    assert launch_file.names_autostart(str(file))
    file.write_text("/other_node:\n  ros__parameters: {autostart: false}\n/**:\n  ros__parameters: 3\n")
    assert not launch_file.names_autostart(str(file))
    assert not launch_file.names_autostart(str(REPOSITORY / "config" / "fusion.yaml"))
    assert not launch_file.names_autostart(str(tmp_path / "missing.yaml"))
