"""Finds out which ROS 2 this machine offers: one that is installed and sourced, or the one on PyPI."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PYPI_PYTHONS = ((3, 10), (3, 14))  # first and last CPython that the ROS wheels on PyPI are built for
PYPI_GLIBC = (2, 28)
OLDEST_PYTHON = (3, 10)
STAND_INS = ("tf2_msgs", "vision_msgs")  # interface packages that PyPI lacks: folders of interfaces/

QUESTION = """
import json, os, sys, rclpy
answer = {"rclpy": rclpy.__file__, "python": os.path.realpath(sys.executable), "version": sys.version_info[:3]}
print(json.dumps(answer))
"""


class UnsupportedMachineError(Exception):
    """The machine lacks something that only its user can install; the message says what."""


@dataclass(frozen=True)
class RosInstallation:
    """Which ROS 2 the environment is made for.

    Attributes:
        distribution: ``humble``, ``jazzy``, ...
        python: the interpreter to make the environment with.
        python_version: of that interpreter, e.g. ``(3, 12, 3)``.
        rclpy: where the installed rclpy lies; ``None`` when ROS 2 comes from PyPI.
        lacking: packages of :data:`STAND_INS` that are not installed and must be built.
    """

    distribution: str
    python: str
    python_version: tuple[int, int, int]
    rclpy: str | None
    lacking: tuple[str, ...]

    @property
    def from_pypi(self) -> bool:
        """Whether the wheels are used."""
        return self.rclpy is None


def find_ros(workspace_install: Path) -> RosInstallation:
    """Return the ROS 2 to use.

    Args:
        workspace_install: the project's own install folder, whose packages do not count as installed.

    Raises:
        UnsupportedMachineError: neither kind can be had here.
    """
    # The file itself: the same interpreter goes by many names, and another one means another environment.
    base_python = str(Path(getattr(sys, "_base_executable", None) or sys.executable).resolve())
    distribution = os.environ.get("ROS_DISTRO", "")
    if distribution:
        for python in dict.fromkeys([base_python, "/usr/bin/python3"]):
            answer = ask_for_rclpy(python)
            if answer:
                return installed(distribution, answer, workspace_install)
    check_wheels_exist()
    return RosInstallation("jazzy", base_python, tuple(sys.version_info[:3]), None, STAND_INS)


def ask_for_rclpy(python: str) -> dict[str, object] | None:
    """Return where ``python`` finds rclpy and what it is, or ``None`` when it cannot import it."""
    try:
        result = subprocess.run([python, "-c", QUESTION], capture_output=True, text=True, timeout=60, check=True)
        return json.loads(result.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def installed(distribution: str, answer: dict[str, object], workspace_install: Path) -> RosInstallation:
    """Describe the sourced ROS 2 from what its Python answered."""
    version = tuple(answer["version"])
    if version < OLDEST_PYTHON:
        raise UnsupportedMachineError(f"ROS 2 {distribution} is too old: install ROS 2 Humble, Jazzy or newer.")
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    foreign = [prefix for prefix in prefixes if workspace_install not in prefix.parents]
    lacking = tuple(
        name for name in STAND_INS if not any((prefix / f"share/{name}/package.xml").is_file() for prefix in foreign)
    )
    return RosInstallation(distribution, str(answer["python"]), version, str(answer["rclpy"]), lacking)


def installed_but_not_sourced() -> Path | None:
    """Return the ``setup.bash`` of a ROS 2 in the usual place, if there is one."""
    return max(Path("/opt/ros").glob("*/setup.bash"), default=None)


def check_wheels_exist() -> None:
    """Raise where PyPI has no ROS 2 for this machine."""
    at_hand = installed_but_not_sourced()
    install = "install ROS 2 Humble or Jazzy (https://docs.ros.org), source its setup.bash, and run this again."
    source = f"source {at_hand} and run this again." if at_hand else install
    machine = f"{platform.system()} {platform.machine()}"
    if machine != "Linux x86_64":
        raise UnsupportedMachineError(f"ROS 2 is not on PyPI for {machine}: {source}")
    library, version = platform.libc_ver()
    found = f"{library} {version}" if library else "another C library"
    if library != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < PYPI_GLIBC:
        raise UnsupportedMachineError(f"ROS 2 from PyPI needs glibc 2.28 or newer, not {found}: {source}")
    first, last = PYPI_PYTHONS
    if not first <= sys.version_info[:2] <= last or platform.python_implementation() != "CPython":
        raise UnsupportedMachineError(
            f"ROS 2 from PyPI needs CPython 3.{first[1]} to 3.{last[1]}, and {sys.executable} is "
            f"{platform.python_implementation()} {platform.python_version()}: install one of them and name it, "
            "e.g. make PYTHON=python3.12 ..."
        )
