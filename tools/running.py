"""Runs the steps of setting up: one line each with its time, their noise in a log file."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

TAIL_LINES = 25


class StepFailedError(Exception):
    """A step of setting up failed; the message says what to do."""


@contextlib.contextmanager
def step(text: str):
    """Print ``text``, then how long the block took."""
    print(f"  {text} ...", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def run_logged(command: list[str], log: Path, environment: dict[str, str], cwd: Path) -> bool:
    """Run ``command`` with its output appended to ``log``; return whether it succeeded."""
    with log.open("a") as file:
        print("$", *command, file=file, flush=True)
        try:
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=cwd, check=False)
        except OSError as error:
            print(error, file=file)
            return False
    return done.returncode == 0


def tail(log: Path) -> str:
    """Return the end of ``log``, under its name."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([f"--- end of {log}", *lines[-TAIL_LINES:], "---"])
