"""What `colcon build` installs of the package irvf: everything a robot needs, and nothing of the workplace."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Where a build of irvf by colcon, through the links of ros2_ws, was installed."""
    base = tmp_path_factory.mktemp("colcon")
    colcon = [sys.executable, "-m", "colcon"] if importlib.util.find_spec("colcon_core") else [shutil.which("colcon")]
    folders = [f"--{name}-base={base / name}" for name in ("build", "install")]
    command = [*colcon, f"--log-base={base / 'log'}", "build", *folders, "--packages-select", "irvf"]
    built = subprocess.run(  # noqa: S603  (a fixed command)
        command, cwd=REPOSITORY / "ros2_ws", capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return base / "install/irvf"


def sources(folder, pattern):
    return {path.relative_to(REPOSITORY) for path in (REPOSITORY / folder).rglob(pattern) if path.is_file()}


def site_packages(prefix):
    (entry_points,) = prefix.glob("**/irvf-*.egg-info/entry_points.txt")
    return entry_points.parents[1]


@pytest.mark.parametrize("package", ["irvf", "irvf_fusion_node"])
def test_every_module_and_its_data_are_installed(prefix, package):
    wanted = sources(package, "*.py") | sources(package, "*.yaml")
    missing = [str(path) for path in wanted if not (site_packages(prefix) / path).is_file()]
    assert not missing


@pytest.mark.parametrize("folder", ["config", "launch", "models"])
def test_shared_files_are_installed(prefix, folder):
    wanted = {path for path in sources(folder, "*") if "__pycache__" not in path.parts}
    missing = [str(path) for path in wanted if not (prefix / "share/irvf" / path).is_file()]
    assert not missing


def test_nothing_else_of_the_repository_is_installed(prefix):
    foreign = {".venv", "demo", "docs", "interfaces", "out", "ros2_ws", "runs", "tests", "tools"}
    assert not [path for path in prefix.rglob("*") if foreign & set(path.relative_to(prefix).parts)]


def test_ros2_run_finds_the_programs(prefix):
    # `ros2 run irvf X` starts the executable file lib/irvf/X of the prefix that the resource index names.
    assert (prefix / "share/ament_index/resource_index/packages/irvf").is_file()
    assert all(os.access(prefix / "lib/irvf" / name, os.X_OK) for name in ("irvf", "irvf_fusion_node"))


def test_the_installed_command_starts(prefix):
    command = [prefix / "lib/irvf/irvf", "--help"]
    variables = {**os.environ, "PYTHONPATH": str(site_packages(prefix))}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stderr
    assert "replay" in result.stdout
