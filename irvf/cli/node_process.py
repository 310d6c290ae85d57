"""The fusion node as a process of its own, and a process that works beside it: started and ended in every case."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import yaml

NAMESPACE = "/fusion"
_ENDS_WITHIN = 30.0
_PROFILE = Path("config") / "fast_dds.xml"
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Of Fast DDS 2 and 3."""
_LOG_PREFIX = re.compile(r"^(\[[^\]]*\]\s*)+:?\s*")


def node_environment(*, shared_memory: bool = True) -> dict[str, str]:
    """Return an environment of this machine only and a domain of its own, unless the user has chosen otherwise.

    Args:
        shared_memory: give Fast DDS shared memory that images fit into, unless the user has chosen a profile.
    """
    environment = dict(os.environ)
    if environment.get("ROS_DISTRO") == "humble":  # which knows no discovery range
        environment.setdefault("ROS_LOCALHOST_ONLY", "1")
    # Humble keeps to this machine by a transport of its own, beside which those of a profile stay open to all.
    local = environment.get("ROS_LOCALHOST_ONLY") == "1"
    if shared_memory and not local and not any(map(environment.get, _PROFILE_VARIABLES)):
        environment |= dict.fromkeys(_PROFILE_VARIABLES, str(_profile()))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    return environment


def write_node_parameters(parameters: dict[str, object], path: Path) -> Path:
    """Write a parameter file for the node; return its path."""
    # Under the node's full name, which wins over /** in a file of the user's.
    path.write_text(yaml.safe_dump({f"{NAMESPACE}/irvf_fusion_node": {"ros__parameters": parameters}}), "utf-8")
    return path


def _profile() -> Path:
    """Return the profile of the source tree, or of the installation."""
    here = Path(__file__).resolve()
    roots = (here.parents[2], *(parent / "share" / "irvf" for parent in here.parents))
    return next(root / _PROFILE for root in roots if (root / _PROFILE).is_file())


@contextmanager
def node_process(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the node while the block lasts; then end it as a user would, with SIGINT.

    SIGTERM is taken as Ctrl-C meanwhile: whoever ends this process does not leave the node behind.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with log.open("w", encoding="utf-8") as log_file:
            node = subprocess.Popen(  # noqa: S603  (this interpreter, arguments as a list)
                command, env=environment, stdout=log_file, stderr=subprocess.STDOUT
            )
            try:
                yield node
            finally:
                _end(node)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(node: subprocess.Popen[bytes]) -> None:
    if node.poll() is not None:
        return
    try:
        node.send_signal(signal.SIGINT)
        node.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        pass
    finally:  # a second Ctrl-C does not leave it behind either
        if node.poll() is None:
            node.kill()
            node.wait()


def run_beside(node: subprocess.Popen[bytes], command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command beside the node and return its exit code; stop it and return 1 when the node ends before it."""
    companion = subprocess.Popen(command, env=environment)  # noqa: S603  (as above)
    try:
        while companion.poll() is None:
            if node.poll() is not None:
                return 1
            time.sleep(0.1)
        return companion.returncode
    finally:
        if companion.poll() is None:
            companion.terminate()
            companion.wait()


def last_words(log: Path) -> str:
    """Return the last error that a node's log holds, without time and name, or else its last line."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if "[ERROR]" in line]
    return _LOG_PREFIX.sub("", (errors or lines or [""])[-1])


def node_command(*arguments: str) -> list[str]:
    """Return the command that starts the node in :data:`NAMESPACE` with these ROS arguments."""
    return [sys.executable, "-m", "irvf_fusion_node", "--ros-args", "-r", f"__ns:={NAMESPACE}", *arguments]
