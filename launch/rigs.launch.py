"""Starts a fusion node for each of several rigs: ``ros2 launch irvf rigs.launch.py rigs:=front,rear``.

The node of rig front has the namespace /front/fusion and takes /front/thermal/image_raw and /front/rgb/image_raw. What
is not named here is an argument of ``fusion.launch.py`` and goes to all rigs. ``--show-args`` lists what can be set.
"""

import re
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

ARGUMENTS = {
    "rigs": ("front,rear", "Names of the rigs, with commas between them."),
    "rig_params_folder": ("", "Folder with a parameter file RIG.yaml for each rig, read last. Empty: none."),
    "thermal_topic": ("/{rig}/thermal/image_raw", "Thermal images of a rig; {rig} stands for its name."),
    "rgb_topic": ("/{rig}/rgb/image_raw", "RGB images of a rig, likewise."),
    "thermal_camera_info_topic": (
        "",
        "CameraInfo of its thermal camera, likewise. Empty: camera_info beside its images.",
    ),
    "rgb_camera_info_topic": ("", "CameraInfo of its RGB camera. Empty: camera_info beside its images."),
    "namespace": ("{rig}/fusion", "Namespace of a rig's node, likewise."),
    "enclave": ("", "SROS2 enclave of a rig's process, likewise, as /{rig}/fusion; empty for none."),
    "extra_params_file": ("", "Parameter files of all rigs, read after params_file and before RIG.yaml."),
}
PER_RIG = (
    *("thermal_topic", "rgb_topic", "thermal_camera_info_topic", "rgb_camera_info_topic"),
    *("namespace", "enclave"),
)


def rig_names(text: str) -> list[str]:
    """Return the names of the rigs.

    Raises:
        ValueError: none, one twice, or one that is no part of a ROS name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    bad = [name for name in names if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)]
    if bad or not names or len(set(names)) < len(names):
        raise ValueError(f"rigs:={text}; names of letters, digits and _, each once, with commas between them")
    return names


def rig_arguments(rig: str, value: dict[str, str]) -> dict[str, str]:
    """Return the arguments of ``fusion.launch.py`` for one rig.

    Raises:
        ValueError: its parameter file is missing.
    """
    own = {name: value[name].replace("{rig}", rig) for name in PER_RIG}
    files = [value["extra_params_file"]]
    if value["rig_params_folder"]:
        file = Path(value["rig_params_folder"]).expanduser() / f"{rig}.yaml"
        if not file.is_file():
            raise ValueError(f"rig {rig}: no parameter file {file}")
        files.append(str(file))
    return {**own, "extra_params_file": ",".join(filter(None, files))}


def start_rigs(context: LaunchContext) -> list[GroupAction]:
    """Include the launch file of one node for each rig, each with arguments of its own."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    file = PythonLaunchDescriptionSource(str(Path(__file__).with_name("fusion.launch.py")))
    return [
        GroupAction([IncludeLaunchDescription(file, launch_arguments=rig_arguments(rig, value).items())])
        for rig in rig_names(value["rigs"])
    ]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start a node for each rig."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_rigs)])
