"""The interface packages in ``ros2_ws``: which are needed, whether they are sound, how they are built."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from integrity import digest, first_difference, listing, read_stamp, write_stamp
from ros_installation import STAND_INS, RosInstallation
from running import StepFailedError, run_logged, step, tail
from virtual_environment import VirtualEnvironment, remove

COMPILER_HINT = "sudo apt install build-essential (or your system's C and C++ compiler), and run this again."


class Workspace:
    """``ros2_ws`` of a repository, for one ROS 2.

    Args:
        repository: root of the repository.
        ros: the ROS 2 it is built with.
        environment: the Python environment it is built in.
    """

    def __init__(self, repository: Path, ros: RosInstallation, environment: VirtualEnvironment):
        self.ros, self.environment = ros, environment
        self.folder = repository / "ros2_ws"
        self.stamp = self.folder / "install/.irvf-workspace.json"
        self.log = self.folder / "log/setup.log"
        self.sources = {"irvf_msgs": repository / "irvf_msgs"}
        self.sources.update({name: repository / "interfaces" / name for name in ros.lacking})

    def key(self) -> str:
        """Return what the workspace is built from, as a digest."""
        files = [path for source in self.sources.values() for path in sorted(source.rglob("*")) if path.is_file()]
        names = [str(path) for path in files]
        machine = [self.ros.python, self.ros.python_version, self.ros.rclpy, self.ros.distribution]
        return digest(str(self.folder), machine, names, *files, *self.environment.constraints, Path(__file__))

    def defect(self) -> str | None:
        """Return what is wrong with the build, ``None`` when nothing is seen."""
        stamp = read_stamp(self.stamp)
        if not stamp:
            return "it was not finished"
        if stamp["key"] != self.key():
            return "interfaces, ROS 2 or the folder changed"
        for name in self.sources:
            difference = first_difference(self.folder / "install" / name, stamp["files"][name])
            if difference:
                return f"{name}: {difference}"
        return None

    def build(self, reason: str) -> None:
        """Build the interface packages from nothing."""
        print(f"Building the interfaces in ros2_ws ({reason})")
        self.stamp.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        self.link_stand_ins()
        for name in ("irvf_msgs", *STAND_INS):
            remove(self.folder / "build" / name)
            remove(self.folder / "install" / name)
        self.log.parent.mkdir(exist_ok=True)
        with step(f"compiling {' and '.join(self.sources)}"):
            if not run_logged(self.command(), self.log, self.variables(), self.folder):
                raise StepFailedError(
                    f"{tail(self.log)}\nThe interfaces could not be built: mend that, and run this again."
                )
        files = {name: listing(self.folder / "install" / name) for name in self.sources}
        write_stamp(self.stamp, {"key": self.key(), "files": files})

    def command(self) -> list[str]:
        """Return the call of colcon."""
        colcon = self.environment.system_colcon()
        program = [colcon] if colcon else [str(self.environment.python), "-m", "colcon"]
        # With an installed ROS 2 the build must outlive .venv: the user builds on with the ROS 2's own Python.
        python = str(self.environment.python) if self.ros.from_pypi else self.ros.python
        paths = [f"src/{name}" for name in self.sources]
        options = ["-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={python}"]
        return [*program, "build", "--paths", *paths, "--cmake-args", *options]

    def variables(self) -> dict[str, str]:
        """Return the variables for colcon: without those by which the make above would meddle with the make below."""
        off = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "IRVF_ENVIRONMENT"}
        return {name: value for name, value in os.environ.items() if name not in off}

    def link_stand_ins(self) -> None:
        """Let colcon see our stand-in of a package exactly where no other is installed."""
        for name in STAND_INS:
            link = self.folder / "src" / name
            link.unlink(missing_ok=True)
            if name in self.sources:
                link.symlink_to(f"../../interfaces/{name}")

    def check_compilers(self) -> None:
        """Raise where C, C++ or Python's headers are missing."""
        headers = subprocess.run(
            [self.ros.python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        for language, variable, default in (("c", "CC", "cc"), ("c++", "CXX", "c++")):
            compiler = os.environ.get(variable, default).split()
            if not compiles([*compiler, "-x", language], "#include <stddef.h>"):
                raise StepFailedError(f"{compiler[0]} cannot compile {language.upper()}: {COMPILER_HINT}")
        if not compiles([*compiler, "-x", language, f"-I{headers}"], "#include <Python.h>"):
            major, minor, _ = self.ros.python_version
            raise StepFailedError(
                f"The headers of {self.ros.python} are missing: sudo apt install python{major}.{minor}-dev "
                "(or your system's package of that name), and run this again."
            )
        if shutil.which("make") is None:
            raise StepFailedError(f"make is missing: {COMPILER_HINT}")


def compiles(compiler: list[str], source: str) -> bool:
    """Whether the compiler accepts the source text."""
    try:
        command = [*compiler, "-fsyntax-only", "-"]
        return subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
