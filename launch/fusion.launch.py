"""Starts the fusion node: ``ros2 launch irvf fusion.launch.py --show-args`` lists what can be set."""

from pathlib import Path

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

NODE = "irvf_fusion_node"
FROM_FILE = "Empty: as the parameter files say."
ARGUMENTS = {
    "namespace": ("fusion", "Namespace of the node: the instruction topic is /NAMESPACE/instruction."),
    "thermal_topic": ("/thermal/image_raw", "Thermal images; compressed ones beneath it, as image_transport has them."),
    "rgb_topic": ("/rgb/image_raw", "RGB images, likewise."),
    "thermal_camera_info_topic": ("", "CameraInfo of the thermal camera. Empty: camera_info beside its images."),
    "rgb_camera_info_topic": ("", "CameraInfo of the RGB camera. Empty: camera_info beside its images."),
    "params_file": (
        PathJoinSubstitution([FindPackageShare("irvf"), "config", "fusion.yaml"]),
        "ROS parameter file of the node, or several with commas between them: a later one wins over those before it.",
    ),
    "extra_params_file": ("", "Further parameter files, of the rig or its calibration: they win over params_file."),
    "model": ("", f"Fusion: a model folder (name or path), or max, average, laplacian. {FROM_FILE}"),
    "engine": ("", f"What runs the networks: auto, openvino, onnxruntime, torch, tensorrt. {FROM_FILE}"),
    "use_sim_time": ("", f"true: take the time from /clock, e.g. with ros2 bag play --clock. {FROM_FILE}"),
    "autostart": ("", f"false: leave configure and activate to a lifecycle manager. {FROM_FILE[:-1]}, else true."),
    "log_level": (
        "info",
        f"debug, info, warn, error or fatal; with commas also LOGGER:=LEVEL, as info,{NODE}:=debug for the node alone.",
    ),
    "respawn": ("false", "true: start the node again when it ends by itself."),
    "respawn_delay": ("2.0", "Seconds to wait before that."),
    "enclave": ("", "SROS2 enclave of the process, as /fusion; empty for none (docs/security.md)."),
}
DDS_PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
FLAGS = ("use_sim_time", "autostart")
TEXTS = ("model", "engine")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def flag(name: str, text: str) -> bool:
    """Return what a flag says.

    Raises:
        ValueError: it is neither true nor false.
    """
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name}:={text}; allowed: true, false")
    return text.lower() == "true"


def given_parameters(value: dict[str, str]) -> dict[str, object]:
    """Return the parameters that were given as arguments.

    Raises:
        ValueError: a flag is neither true nor false.
    """
    texts: dict[str, object] = {name: value[name] for name in TEXTS if value[name]}
    return {**texts, **{name: flag(name, value[name]) for name in FLAGS if value[name]}}


def parameter_files(*lists: str) -> list[str]:
    """Return the files of lists with commas between them, in the order in which ROS reads them.

    Raises:
        ValueError: one of them is missing; ROS would go on without it.
    """
    files = [file.strip() for texts in lists for file in texts.split(",") if file.strip()]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise ValueError(f"no parameter file {', '.join(missing)}")
    return files


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
        if isinstance(parameters, dict) and "autostart" in parameters and name.endswith(("*", NODE)):
            return True
        sections += [(str(key), entry) for key, entry in section.items()]
    return False


def log_arguments(text: str, namespace: str) -> list[str]:
    """Return the ROS arguments for log levels; the node's own logger may be called by its name without namespace.

    Raises:
        ValueError: a level that is none.
    """
    arguments = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        logger, _, level = entry.rpartition(":=")
        if level.lower() not in LOG_LEVELS:
            raise ValueError(f"log_level:={text}: {level!r} is none; allowed: {', '.join(LOG_LEVELS)}")
        if logger == NODE:
            logger = ".".join([*filter(None, namespace.split("/")), NODE])
        arguments += ["--log-level", f"{logger}:={level}" if logger else level]
    return arguments


def beside(image_topic: str) -> str:
    """Return the topic of the camera_info beside an image topic, as image_transport names it."""
    return "/".join([*image_topic.split("/")[:-1], "camera_info"])


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """Make the node of the arguments as they are when the launch runs."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    files = parameter_files(value["params_file"], value["extra_params_file"])
    given = given_parameters(value)
    if not any(names_autostart(file) for file in files):
        given.setdefault("autostart", True)
    profile = PathJoinSubstitution([FindPackageShare("irvf"), "config", "fast_dds.xml"])
    # Humble keeps to this machine by a transport of its own, beside which those of a profile stay open to all.
    local = context.environment.get("ROS_LOCALHOST_ONLY") == "1"
    own = local or any(context.environment.get(name) for name in DDS_PROFILES)
    enclave = ["--enclave", value["enclave"]] if value["enclave"] else []
    node = LifecycleNode(
        package="irvf",
        executable=NODE,
        name=NODE,
        namespace=value["namespace"],
        output="screen",
        emulate_tty=True,
        additional_env={} if own else dict.fromkeys(DDS_PROFILES, profile),
        parameters=[*files, *([given] if given else [])],
        remappings=[
            ("thermal/image_raw", value["thermal_topic"]),
            ("thermal/camera_info", value["thermal_camera_info_topic"] or beside(value["thermal_topic"])),
            ("rgb/image_raw", value["rgb_topic"]),
            ("rgb/camera_info", value["rgb_camera_info_topic"] or beside(value["rgb_topic"])),
        ],
        arguments=["--ros-args", *log_arguments(value["log_level"], value["namespace"]), *enclave],
        sigterm_timeout="35.0",  # the node gives an engine that hangs 30 seconds, launch by itself 5
        respawn=flag("respawn", value["respawn"]),
        respawn_delay=float(value["respawn_delay"]),
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the node as a lifecycle node."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_node)])
