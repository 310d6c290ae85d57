"""Starts the fusion node: ``ros2 launch irvf fusion.launch.py --show-args`` lists what can be set."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "namespace": ("fusion", "Namespace of the node: the instruction topic is /NAMESPACE/instruction."),
    "thermal_topic": ("/thermal/image_raw", "Thermal images, sensor_msgs/Image."),
    "rgb_topic": ("/rgb/image_raw", "RGB images, sensor_msgs/Image."),
    "rgb_camera_info_topic": (
        "/rgb/camera_info",
        "CameraInfo of the RGB camera, published again beside the fused image.",
    ),
    "params_file": (
        PathJoinSubstitution([FindPackageShare("irvf"), "config", "fusion.yaml"]),
        "ROS parameter file of the node; the arguments below win over it.",
    ),
    "model": ("irvf", "Fusion: a model folder (name or path), or max, average, laplacian."),
    "engine": ("auto", "What runs the networks: auto, onnxruntime."),
    "use_sim_time": ("false", "Take the time from /clock, e.g. with ros2 bag play --clock."),
    "autostart": ("true", "Configure and activate the node at start; false leaves that to a lifecycle manager."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the node as a lifecycle node."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    value = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    node = LifecycleNode(
        package="irvf",
        executable="irvf_fusion_node",
        name="irvf_fusion_node",
        namespace=value["namespace"],
        output="screen",
        emulate_tty=True,
        parameters=[
            value["params_file"],
            {
                "model": ParameterValue(value["model"], value_type=str),
                "engine": ParameterValue(value["engine"], value_type=str),
                "use_sim_time": ParameterValue(value["use_sim_time"], value_type=bool),
                "autostart": ParameterValue(value["autostart"], value_type=bool),
            },
        ],
        remappings=[
            ("thermal/image_raw", value["thermal_topic"]),
            ("rgb/image_raw", value["rgb_topic"]),
            ("rgb/camera_info", value["rgb_camera_info_topic"]),
        ],
        arguments=["--ros-args", "--log-level", value["log_level"]],
    )
    return LaunchDescription([*declared, node])
