"""The launch files and the parameter files beside them.

They run on ``launch`` where ROS 2 is installed, else on a stand-in for it; what is made of their actions is the same.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import launch_stand_in
import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.parameter import Parameter

from irvf_fusion_node.node import FusionNode
from irvf_fusion_node.parameters import PARAMETERS, check_value

REPOSITORY = Path(__file__).resolve().parents[2]
PARAMETER_FILE = REPOSITORY / "config" / "fusion.yaml"
HAS_LAUNCH = importlib.util.find_spec("launch_ros") is not None
FUSION_ARGUMENTS = {
    *("namespace", "thermal_topic", "rgb_topic", "thermal_camera_info_topic", "rgb_camera_info_topic"),
    *("params_file", "extra_params_file", "model", "engine", "use_sim_time", "autostart"),
    *("log_level", "respawn", "respawn_delay", "enclave"),
}
RIGS_ARGUMENTS = {
    *("rigs", "rig_params_folder", "extra_params_file", "namespace", "enclave"),
    *("thermal_topic", "rgb_topic", "thermal_camera_info_topic", "rgb_camera_info_topic"),
}


def shipped_parameters():
    content = yaml.safe_load(PARAMETER_FILE.read_text("utf-8"))
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


class Started:
    """What a launch file starts, with the arguments given and the defaults of all others."""

    def __init__(self, made, monkeypatch):
        self.module = made
        self.nodes, self.included = [], []
        if hasattr(made, "LifecycleNode"):
            monkeypatch.setattr(made, "LifecycleNode", self._start)
        if hasattr(made, "IncludeLaunchDescription"):
            monkeypatch.setattr(made, "IncludeLaunchDescription", self._include)
            monkeypatch.setattr(made, "GroupAction", lambda actions: actions)
        self.run = made.start_node if hasattr(made, "start_node") else made.start_rigs

    def _start(self, **options):
        self.nodes.append(SimpleNamespace(**options))
        return self.nodes[-1]

    def _include(self, _source, launch_arguments):
        self.included.append(dict(launch_arguments))

    def context(self, environment=None, **given):
        context = self.module.LaunchContext()
        defaults = {name: default for name, (default, _) in self.module.ARGUMENTS.items()}
        if "params_file" in defaults:
            defaults["params_file"] = str(PARAMETER_FILE)
        context.launch_configurations.update({**defaults, **given})
        context.environment.update(environment or {})
        return context

    def node(self, **given):
        self.run(self.context(**given))
        return self.nodes[-1]

    def rigs(self, **given):
        self.included.clear()
        self.run(self.context(**given))
        return self.included


def load(name, monkeypatch):
    if not HAS_LAUNCH:
        launch_stand_in.install(monkeypatch)
    file = REPOSITORY / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Started(module, monkeypatch)


@pytest.fixture
def fusion(monkeypatch):
    return load("fusion", monkeypatch)


@pytest.fixture
def rigs(monkeypatch):
    return load("rigs", monkeypatch)


@pytest.mark.parametrize(("name", "expected"), [("fusion", FUSION_ARGUMENTS), ("rigs", RIGS_ARGUMENTS)])
def test_every_launch_argument_is_described_and_has_a_default(monkeypatch, name, expected):
    description = load(name, monkeypatch).module.generate_launch_description()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(arguments) == expected
    for argument in arguments.values():
        assert len(argument.description) > 10
        assert argument.default_value is not None


def test_one_lifecycle_node_is_started(fusion):
    node = fusion.node()
    assert (node.package, node.executable, node.name, node.namespace) == ("irvf", *["irvf_fusion_node"] * 2, "fusion")
    assert node.parameters == [str(PARAMETER_FILE), {"autostart": True}]
    assert dict(node.remappings) == {
        "thermal/image_raw": "/thermal/image_raw",
        "thermal/camera_info": "/thermal/camera_info",
        "rgb/image_raw": "/rgb/image_raw",
        "rgb/camera_info": "/rgb/camera_info",
    }
    assert node.arguments == ["--ros-args", "--log-level", "info"]
    assert not node.respawn
    assert float(node.sigterm_timeout) > 30  # which the node itself takes for an engine that hangs


def test_parameter_files_are_read_in_the_order_in_which_they_are_named(fusion, tmp_path):
    files = [tmp_path / name for name in ("base.yaml", "calibration.yaml", "site.yaml")]
    for file in files:
        file.write_text("/**:\n  ros__parameters: {}\n")
    base, calibration, site = map(str, files)
    node = fusion.node(params_file=f"{base}, {calibration}", extra_params_file=site, engine="onnxruntime")
    assert node.parameters == [base, calibration, site, {"engine": "onnxruntime", "autostart": True}]
    with pytest.raises(ValueError, match=r"no parameter file .*missing\.yaml"):
        fusion.node(extra_params_file=str(tmp_path / "missing.yaml"))


def test_of_two_parameter_files_the_later_one_wins(tmp_path):
    """As ROS itself reads them: the launch file only puts them in order."""
    for name, text in (("base", "max_gap: 0.01\n    pairing.max_wait: 0.2"), ("site", "max_gap: 0.03")):
        (tmp_path / f"{name}.yaml").write_text(f"/**:\n  ros__parameters:\n    pairing.{text}\n")
    files = [part for name in ("base", "site") for part in ("--params-file", str(tmp_path / f"{name}.yaml"))]
    context = Context()
    rclpy.init(context=context, args=["--ros-args", *files])
    try:
        node = FusionNode(context=context, namespace="/fusion")
        assert node.get_parameter("pairing.max_gap").value == 0.03
        assert node.get_parameter("pairing.max_wait").value == 0.2
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_camera_info_is_looked_for_beside_the_images(fusion):
    node = fusion.node(thermal_topic="/lepton/image", rgb_topic="image", rgb_camera_info_topic="/left/info")
    remappings = dict(node.remappings)
    assert remappings["thermal/camera_info"] == "/lepton/camera_info"
    assert remappings["rgb/camera_info"] == "/left/info"
    assert fusion.module.beside("image") == "camera_info"


def test_only_what_is_given_overrides_the_parameter_file(fusion, tmp_path):
    nothing = dict.fromkeys(("model", "engine", "use_sim_time", "autostart"), "")
    assert fusion.module.given_parameters(nothing) == {}
    given = {**nothing, "model": "max", "autostart": "False"}
    assert fusion.module.given_parameters(given) == {"model": "max", "autostart": False}
    with pytest.raises(ValueError, match="use_sim_time:=maybe"):
        fusion.module.given_parameters({**nothing, "use_sim_time": "maybe"})
    file = tmp_path / "mine.yaml"
    file.write_text("/fusion:\n  irvf_fusion_node:\n    ros__parameters: {autostart: false}\n")
    assert fusion.module.names_autostart(str(file))
    assert fusion.node(extra_params_file=str(file)).parameters == [str(PARAMETER_FILE), str(file)]
    file.write_text("/other_node:\n  ros__parameters: {autostart: false}\n/**:\n  ros__parameters: 3\n")
    assert not fusion.module.names_autostart(str(file))
    assert not fusion.module.names_autostart(str(PARAMETER_FILE))
    assert not fusion.module.names_autostart(str(tmp_path / "missing.yaml"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("warn", ["warn"]),
        ("info,irvf_fusion_node:=debug", ["info", "front.fusion.irvf_fusion_node:=debug"]),
        ("rcl:=error , rmw_fastrtps_cpp:=DEBUG", ["rcl:=error", "rmw_fastrtps_cpp:=DEBUG"]),
        ("", []),
    ],
)
def test_log_levels(fusion, given, expected):
    arguments = fusion.module.log_arguments(given, "/front/fusion")
    assert arguments == [part for level in expected for part in ("--log-level", level)]


@pytest.mark.parametrize("given", ["loud", "info,irvf_fusion_node:=", "info,a:=b:=chatty"])
def test_a_log_level_that_is_none_is_refused(fusion, given):
    with pytest.raises(ValueError, match="allowed: debug"):
        fusion.node(log_level=given)


def test_a_node_that_is_to_come_back(fusion):
    node = fusion.node(respawn="true", respawn_delay="5.0", enclave="/fusion")
    assert node.respawn
    assert node.respawn_delay == 5.0
    assert node.arguments[-2:] == ["--enclave", "/fusion"]
    with pytest.raises(ValueError, match="respawn:=often"):
        fusion.node(respawn="often")


def test_the_profile_of_the_middleware_is_left_to_who_has_one(fusion):
    assert set(fusion.node().additional_env) == set(fusion.module.DDS_PROFILES)
    for environment in ({"ROS_LOCALHOST_ONLY": "1"}, {"FASTDDS_DEFAULT_PROFILES_FILE": "/etc/own.xml"}):
        fusion.run(fusion.context(environment))
        assert fusion.nodes[-1].additional_env == {}


def test_two_rigs_have_namespaces_topics_and_parameters_of_their_own(rigs, fusion, tmp_path):
    for name in ("front", "rear", "all"):
        (tmp_path / f"{name}.yaml").write_text("/**:\n  ros__parameters: {}\n")
    front, rear = rigs.rigs(rig_params_folder=str(tmp_path), extra_params_file=str(tmp_path / "all.yaml"))
    assert (front["namespace"], rear["namespace"]) == ("front/fusion", "rear/fusion")
    assert front["extra_params_file"] == f"{tmp_path / 'all.yaml'},{tmp_path / 'front.yaml'}"
    assert rear["thermal_topic"] == "/rear/thermal/image_raw"
    # What goes to the launch file of one node is what it takes.
    assert set(front) <= set(FUSION_ARGUMENTS)
    node = fusion.node(**front)
    assert node.namespace == "front/fusion"
    assert dict(node.remappings)["rgb/camera_info"] == "/front/rgb/camera_info"
    assert node.parameters[1:3] == [str(tmp_path / "all.yaml"), str(tmp_path / "front.yaml")]


def test_names_of_rigs_and_topics(rigs):
    (one,) = rigs.rigs(rigs="mast", rgb_topic="/cameras/{rig}_color/image", enclave="/{rig}/fusion")
    assert (one["rgb_topic"], one["enclave"]) == ("/cameras/mast_color/image", "/mast/fusion")
    assert len(rigs.rigs(rigs=" left, right ,top")) == 3
    for bad in ("", "front,front", "front rear", "1st", "a/b"):
        with pytest.raises(ValueError, match="rigs:="):
            rigs.rigs(rigs=bad)


def test_a_rig_without_its_parameter_file_is_not_started(rigs, tmp_path):
    (tmp_path / "front.yaml").write_text("/**:\n  ros__parameters: {}\n")
    with pytest.raises(ValueError, match=r"rig rear: no parameter file .*rear\.yaml"):
        rigs.rigs(rig_params_folder=str(tmp_path))


@pytest.mark.skipif(not HAS_LAUNCH, reason="launch and launch_ros come with an installed ROS 2 and are not on PyPI")
def test_the_real_launch_takes_the_file(monkeypatch):
    made = load("fusion", monkeypatch)
    monkeypatch.undo()
    module = load("fusion", monkeypatch).module
    monkeypatch.undo()
    (node,) = module.start_node(made.context())
    assert (node.node_package, node.node_executable) == ("irvf", "irvf_fusion_node")
