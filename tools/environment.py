"""Makes ``.venv`` and the interfaces in ``ros2_ws``, once, and notices when they are broken or out of date.

Run by the Makefile with the machine's own Python and nothing installed: ``python3 tools/environment.py demo|test``.
The layer ``demo`` is what the node runs on; ``test`` adds torch, linting and tests to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path

from ros_installation import RosInstallation, UnsupportedMachineError, find_ros, installed_but_not_sourced
from running import StepFailedError, step
from virtual_environment import VirtualEnvironment
from workspace import Workspace

REPOSITORY = Path(__file__).resolve().parent.parent
LAYERS = ("demo", "test")

# What a run needs, imported for real: 0 is sound, 3 a broken .venv, 4 a broken workspace.
PROBE = """
import sys
try:
    import cv2, numpy, onnxruntime, rclpy, rosbags.highlevel, tqdm, yaml
    from sensor_msgs.msg import Image
    Image.__class__.__import_type_support__()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(3)
try:
    from irvf_msgs.msg import ActiveInstruction, FusionStatus
    from irvf_msgs.srv import EstimateDelay, SetInstruction
    from tf2_msgs.msg import TFMessage
    from vision_msgs.msg import Detection2DArray, LabelInfo
    ours = (ActiveInstruction, FusionStatus, EstimateDelay, SetInstruction)
    for interface in (*ours, TFMessage, Detection2DArray, LabelInfo):
        interface.__class__.__import_type_support__()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(4)
"""


def main() -> int:
    """Bring the environment to the layer named on the command line; 0 on success."""
    if len(sys.argv) != 2 or sys.argv[1] not in LAYERS:
        print(f"usage: {sys.argv[0]} {'|'.join(LAYERS)}", file=sys.stderr)
        return 2
    leave_virtual_environment()
    try:
        with one_at_a_time(REPOSITORY / ".venv.lock"):
            bring_up(LAYERS[: LAYERS.index(sys.argv[1]) + 1])
    except (UnsupportedMachineError, StepFailedError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The same command starts over what is unfinished.", file=sys.stderr)
        return 130
    return 0


def leave_virtual_environment() -> None:
    """Go on with the interpreter under ``.venv`` when it is active, since ``.venv`` may be removed."""
    if Path(sys.prefix) == REPOSITORY / ".venv":
        base = sys._base_executable  # noqa: SLF001  (the only name for it before Python 3.11)
        os.execve(base, [base, *sys.argv], {**os.environ, "IRVF_ENVIRONMENT": "off"})  # noqa: S606


@contextlib.contextmanager
def one_at_a_time(lock: Path):
    """Hold ``lock``; the system lets go of it however the process ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Waiting for another make that is setting the environment up.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def bring_up(layers: tuple[str, ...]) -> None:
    """Check ``.venv`` and ``ros2_ws``; remake what is missing, out of date or broken."""
    ros = find_ros(REPOSITORY / "ros2_ws/install")
    environment = VirtualEnvironment(REPOSITORY, ros)
    workspace = Workspace(REPOSITORY, ros, environment)

    environment_defect = environment.defect(layers)
    workspace_defect = workspace.defect()
    if environment_defect is None:
        code, message = probe(environment)
        environment_defect = message if code not in (0, 4) else None
        workspace_defect = workspace_defect or (message if code == 4 else None)

    if workspace_defect is not None:
        workspace.check_compilers()  # before minutes are spent on the rest
    if environment_defect is not None:
        if ros.from_pypi and (at_hand := installed_but_not_sourced()):
            print(f"ROS 2 comes from PyPI. To use the installed one: source {at_hand}")
        environment.make(layers, environment_defect)
    if workspace_defect is not None:
        workspace.build(workspace_defect)
    if environment_defect is not None or workspace_defect is not None:
        prove(environment, ros)


def probe(environment: VirtualEnvironment) -> tuple[int, str]:
    """Import what matters in the environment; return the exit code and the reason."""
    command = [str(environment.python), "-c", PROBE]
    variables = {name: value for name, value in os.environ.items() if name != "IRVF_ENVIRONMENT"}
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=variables, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 3, str(error)
    lines = (result.stdout + result.stderr).strip().splitlines()
    return result.returncode, lines[-1] if lines else f"the interpreter ended with {result.returncode}"


def prove(environment: VirtualEnvironment, ros: RosInstallation) -> None:
    """Raise where even the environment just made does not work."""
    with step("checking"):
        code, message = probe(environment)
        if code:
            hint = "remove .venv and ros2_ws/build, ros2_ws/install and try again"
            raise StepFailedError(f"The environment for ROS 2 {ros.distribution} does not work: {message}\n{hint}")


if __name__ == "__main__":
    sys.exit(main())
