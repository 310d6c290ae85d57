"""What a measurement must say of the machine it ran on, and what a process and the machine are doing right now."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import irvf

_PROC = Path("/proc")
_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "tensorrt", "torch")
_GIT_WITHIN = 10


def describe_machine() -> dict[str, Any]:
    """Return date, processor, cores, load and versions; ``commit`` is empty outside of a git checkout."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "commit": commit(Path(irvf.__file__).parents[1]),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }


def _processor() -> str:
    lines = _lines(_PROC / "cpuinfo")
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit(folder: Path) -> str:
    """Return the abbreviated commit of a git checkout, with ``-dirty`` where files differ from it; empty for none.

    Args:
        folder: root of the checkout; a folder further up that is one does not count.
    """
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return ""
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(  # noqa: S603  (git, arguments as a list)
            command, capture_output=True, text=True, check=False, timeout=_GIT_WITHIN
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


@dataclass(frozen=True)
class Reading:
    """What a process and the machine had used up at one moment.

    Attributes:
        time: monotonic, in seconds.
        process_s: processor time of the process in seconds, user and system together.
        resident: memory that the process holds in bytes.
        busy_s: processor time of all cores together that was not idle, in seconds.
        total_s: the same with what was idle.
        own_s: processor time of the reading process.
    """

    time: float
    process_s: float
    resident: int
    busy_s: float
    total_s: float
    own_s: float


def read_load(pid: int) -> Reading | None:
    """Read what process ``pid`` and the machine used up; None where the system does not say or the process is gone."""
    try:
        # The name of the command, in brackets, may hold blanks and brackets itself.
        fields = (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        resident = next(line for line in _lines(_PROC / str(pid) / "status") if line.startswith("VmRSS:"))
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user (man 5 proc).
        whole = [int(value) for value in _lines(_PROC / "stat")[0].split()[1:9]]
    except (OSError, StopIteration, IndexError, ValueError):
        return None
    tick = 1.0 / os.sysconf("SC_CLK_TCK")
    return Reading(
        time=time.monotonic(),
        process_s=(int(fields[11]) + int(fields[12])) * tick,
        resident=int(resident.split()[1]) * 1024,
        busy_s=(sum(whole) - whole[3] - whole[4]) * tick,
        total_s=sum(whole) * tick,
        own_s=time.process_time(),
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
