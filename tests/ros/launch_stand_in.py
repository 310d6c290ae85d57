"""As much of ``launch`` and ``launch_ros`` as the launch files use, for machines without: both come with ROS 2 alone.

Nothing is started; actions keep what they were made of. With the real packages, the tests take those.
"""

import sys
from types import ModuleType


class Action:
    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options


class DeclareLaunchArgument(Action):
    def __init__(self, name, *, default_value, description):
        super().__init__()
        self.name, self.default_value, self.description = name, default_value, description


class LaunchDescription:
    def __init__(self, actions):
        self.entities = list(actions)

    def get_launch_arguments(self):
        return [entity for entity in self.entities if isinstance(entity, DeclareLaunchArgument)]


class LaunchContext:
    def __init__(self):
        self.launch_configurations, self.environment = {}, {}


class LaunchConfiguration:
    def __init__(self, name):
        self.name = name

    def perform(self, context):
        return context.launch_configurations[self.name]


MODULES = {
    "launch": {"LaunchContext": LaunchContext, "LaunchDescription": LaunchDescription},
    "launch.actions": {
        "DeclareLaunchArgument": DeclareLaunchArgument,
        **dict.fromkeys(("GroupAction", "IncludeLaunchDescription", "OpaqueFunction"), Action),
    },
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource": Action},
    "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration, "PathJoinSubstitution": Action},
    "launch_ros": {},
    "launch_ros.actions": {"LifecycleNode": Action},
    "launch_ros.substitutions": {"FindPackageShare": Action},
}


def install(patch):
    """Let the launch files import the stand-in, until the patch is undone."""
    for name, content in MODULES.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        patch.setitem(sys.modules, name, module)
