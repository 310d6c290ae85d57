"""Starts the fusion node: ``ros2 launch irvf fusion.launch.py --show-args`` lists what can be set."""

from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

FROM_FILE = "Empty: as the parameter file says."
ARGUMENTS = {
    "namespace": ("fusion", "Namespace of the node: the instruction topic is /NAMESPACE/instruction."),
    "thermal_topic": ("/thermal/image_raw", "Thermal images, sensor_msgs/Image."),
    "rgb_topic": ("/rgb/image_raw", "RGB images, sensor_msgs/Image."),
    "rgb_camera_info_topic": ("", "CameraInfo of the RGB camera. Empty: camera_info beside the RGB images."),
    "params_file": (
        PathJoinSubstitution([FindPackageShare("irvf"), "config", "fusion.yaml"]),
        "ROS parameter file of the node; an argument below that is given wins over it.",
    ),
    "model": ("", f"Fusion: a model folder (name or path), or max, average, laplacian. {FROM_FILE}"),
    "engine": ("", f"What runs the networks: auto, openvino, onnxruntime, torch, tensorrt. {FROM_FILE}"),
    "use_sim_time": ("", f"true: take the time from /clock, e.g. with ros2 bag play --clock. {FROM_FILE}"),
    "autostart": ("", f"false: leave configure and activate to a lifecycle manager. {FROM_FILE[:-1]}, else true."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}
DDS_PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
FLAGS = ("use_sim_time", "autostart")
TEXTS = ("model", "engine")


def given_parameters(value: dict[str, str]) -> dict[str, object]:
    """Return the parameters that were given as arguments.

    Raises:
        ValueError: a flag is neither true nor false.
    """
    flags = {name: value[name].lower() for name in FLAGS if value[name]}
    for name, text in flags.items():
        if text not in ("true", "false"):
            raise ValueError(f"{name}:={value[name]}; allowed: true, false")
    texts: dict[str, object] = {name: value[name] for name in TEXTS if value[name]}
    return {**texts, **{name: text == "true" for name, text in flags.items()}}


def names_autostart(params_file: str) -> bool:
    """Say whether a parameter file decides about autostart itself. One that cannot be read is the node's to refuse."""
    try:
        sections = [("", yaml.safe_load(Path(params_file).read_text("utf-8")))]
    except (OSError, ValueError, yaml.YAMLError):
        return False
    while sections:
        name, section = sections.pop()
        if not isinstance(section, dict):
            continue
        parameters = section.get("ros__parameters")
        if isinstance(parameters, dict) and "autostart" in parameters and name.endswith(("*", "irvf_fusion_node")):
            return True
        sections += [(str(key), entry) for key, entry in section.items()]
    return False


def beside(image_topic: str) -> str:
    """Return the topic of the camera_info beside an image topic, as image_transport names it."""
    return "/".join([*image_topic.split("/")[:-1], "camera_info"])


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """Make the node of the arguments as they are when the launch runs."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    camera_info = value["rgb_camera_info_topic"] or beside(value["rgb_topic"])
    given = given_parameters(value)
    if not names_autostart(value["params_file"]):
        given.setdefault("autostart", True)
    profile = PathJoinSubstitution([FindPackageShare("irvf"), "config", "fast_dds.xml"])
    # Humble keeps to this machine by a transport of its own, beside which those of a profile stay open to all.
    local = context.environment.get("ROS_LOCALHOST_ONLY") == "1"
    own = local or any(context.environment.get(name) for name in DDS_PROFILES)
    node = LifecycleNode(
        package="irvf",
        executable="irvf_fusion_node",
        name="irvf_fusion_node",
        namespace=value["namespace"],
        output="screen",
        emulate_tty=True,
        additional_env={} if own else dict.fromkeys(DDS_PROFILES, profile),
        parameters=[value["params_file"], *([given] if given else [])],
        remappings=[
            ("thermal/image_raw", value["thermal_topic"]),
            ("rgb/image_raw", value["rgb_topic"]),
            ("rgb/camera_info", camera_info),
        ],
        arguments=["--ros-args", "--log-level", value["log_level"]],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the node as a lifecycle node."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_node)])
