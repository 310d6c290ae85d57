"""What is shipped for the robot: as far as it can be checked without systemd running and without a container."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
CONTAINERS = [path for path in sorted(DEPLOY.glob("Containerfile.*")) if path.suffix != ".dockerignore"]


@pytest.mark.parametrize("name", ["start-fusion", "build-workspace"])
def test_scripts_are_programs_that_bash_can_read(name):
    assert os.access(DEPLOY / name, os.X_OK)
    assert subprocess.run(["bash", "-n", DEPLOY / name], check=False).returncode == 0  # noqa: S603, S607


def fake_ros(folder):
    """An installed ROS 2 and a workspace whose ros2 prints what it is asked for."""
    for place in ("ros/humble", "irvf/install"):
        (folder / place).mkdir(parents=True)
    (folder / "ros/humble/setup.bash").write_text(f'export PATH="{folder}/bin:$PATH"\necho $NOT_SET >/dev/null\n')
    (folder / "irvf/install/setup.bash").write_text("export IRVF_IS_SOURCED=1\n")
    (folder / "bin").mkdir()
    (folder / "bin/ros2").write_text('#!/bin/sh\necho "$IRVF_IS_SOURCED" "$@"\n')
    (folder / "bin/ros2").chmod(0o755)
    script = (DEPLOY / "start-fusion").read_text().replace("/opt/", f"{folder}/")
    (folder / "start-fusion").write_text(script)
    return folder / "start-fusion"


def test_the_start_hands_its_arguments_to_the_launch_file(tmp_path):
    start = fake_ros(tmp_path)

    def said(*arguments, **variables):
        environment = {"PATH": os.environ["PATH"], "ROS_DISTRO": "humble", **variables}
        return subprocess.run(["bash", start, *arguments], env=environment, capture_output=True, text=True, check=False)  # noqa: S603, S607

    assert said("respawn:=true", "a:=b c").stdout == "1 launch irvf fusion.launch.py respawn:=true a:=b c\n"
    assert said(IRVF_LAUNCH_FILE="rigs.launch.py").stdout == "1 launch irvf rigs.launch.py\n"
    without = said(ROS_DISTRO="")
    assert without.returncode
    assert "name the ROS 2" in without.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit_and_finds_it_confined(tmp_path):
    unit = tmp_path / "irvf-fusion.service"
    program = tmp_path / "start-fusion"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit.write_text((DEPLOY / unit.name).read_text().replace("/opt/irvf/bin/start-fusion", str(program)))
    checked = subprocess.run(  # noqa: S603
        ["systemd-analyze", "verify", "--man=no", unit],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert unit.name not in checked.stderr
    found = subprocess.run(  # noqa: S603
        ["systemd-analyze", "security", "--offline=yes", unit],  # noqa: S607
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_COLORS": "0"},
    )  # fmt: skip
    exposure = re.search(r"exposure level for \S+ (\d+\.\d)", found.stdout)
    if exposure is None:
        pytest.skip("this systemd cannot look at a unit that is not loaded")
    assert float(exposure[1]) <= 2.5  # 10 is a service that nothing is said of


def test_the_unit_gives_the_node_the_time_it_needs_to_end():
    unit = (DEPLOY / "irvf-fusion.service").read_text()
    node = (REPOSITORY / "irvf_fusion_node" / "node.py").read_text()
    seconds = float(re.search(r"_STOP_TIMEOUT = ([\d.]+)", node)[1])
    assert float(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > seconds
    assert "\nWatchdogSec=" not in unit  # the node does not notify systemd


def test_the_environment_names_arguments_that_the_launch_file_has():
    text = (DEPLOY / "fusion.env").read_text()
    variables = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    launch = (REPOSITORY / "launch" / variables["IRVF_LAUNCH_FILE"]).read_text()
    for argument in variables["LAUNCH_ARGUMENTS"].split():
        assert f'"{argument.partition(":=")[0]}": (' in launch
    assert not any(sign in value for value in variables.values() for sign in "\"'$")


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.name)
def test_a_container_takes_only_what_is_there_and_does_not_run_as_root(path):
    text = path.read_text()
    for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (REPOSITORY / source).exists()
    base = re.search(r"^FROM (\S+)", text, re.MULTILINE)[1]
    assert ":" in base
    assert not base.endswith(":latest")
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] != "root"
    assert "NOT BUILT YET" in text
    kept = [line[1:] for line in Path(f"{path}.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((REPOSITORY / name).exists() for name in kept)
    needed = {
        "irvf",
        "irvf_fusion_node",
        "irvf_msgs",
        "launch",
        "config",
        "models",
        "resource",
        "setup.py",
        "setup.cfg",
    }
    assert needed | {"package.xml", "requirements", "deploy", "ros2_ws/src"} <= set(kept)
