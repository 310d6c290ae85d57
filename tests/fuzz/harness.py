"""A coverage-guided fuzz run of one target: seeds in, findings out; the run goes on after a finding.

libFuzzer ends with its first crash. Here an exception that the target does not allow is written down, with the smallest
input that leads to its place, and the run goes on, so that a count of executions says something. What takes the whole
process down (a signal, a hang, memory beyond the limit) still does; ``run.py`` keeps its input and starts anew.
"""

import argparse
import contextlib
import hashlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
INSTRUMENTED = ["irvf", "irvf_fusion_node", "rosbags"]
"""Packages whose branches guide the fuzzer; native code, OpenCV's above all, is run but not looked into."""
SLOWEST_S = 20
"""After which one input counts as a hang."""


@contextlib.contextmanager
def instrumented():
    """Instrument what is imported inside."""
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        yield


class Findings:
    """Exceptions by where they come from, each with its smallest input.

    Args:
        folder: gets NAME.txt with the traceback and the count, and NAME.bin with the input.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[str, int] = {}
        self._smallest: dict[str, int] = {}

    def add(self, error: BaseException, data: bytes) -> None:
        name = _name(error)
        count = self._counts[name] = self._counts.get(name, 0) + 1
        smaller = len(data) < self._smallest.get(name, sys.maxsize)
        if smaller:
            self._smallest[name] = len(data)
            (self._folder / f"{name}.bin").write_bytes(data)
        if smaller or count & (count - 1) == 0:
            text = "".join(traceback.format_exception(error))
            (self._folder / f"{name}.txt").write_text(f"seen {count} times or more\n{text}", "utf-8", "replace")


def _name(error: BaseException) -> str:
    """Name an exception by its type and the places of the last frames, which the same fault shares."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
    digest = hashlib.sha256(repr((type(error).__name__, places)).encode()).hexdigest()[:8]
    return f"{type(error).__name__}-{Path(frames[-1].filename).stem}-{digest}" if frames else type(error).__name__


def fuzz(one: Callable[[bytes], None], seeds: Iterable[bytes], max_bytes: int = 4096, memory_mb: int = 2048) -> None:
    """Run a target as its command line says; does not return.

    Args:
        one: raises whatever is a finding.
        seeds: inputs to begin with.
        max_bytes: of the longest input.
        memory_mb: that the process may take altogether.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "fuzz" / Path(sys.argv[0]).stem)
    parser.add_argument(
        "--replay", type=Path, nargs="+", help="run these inputs once, and let their exceptions through"
    )
    arguments = parser.parse_args()
    if arguments.replay:
        for path in arguments.replay:
            one(path.read_bytes())
        return
    corpus, found = (arguments.output / name for name in ("corpus", "findings"))
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (corpus / f"seed-{hashlib.sha256(seed).hexdigest()[:16]}").write_bytes(seed)
    findings = Findings(found)

    def guarded(data: bytes) -> None:
        try:
            one(data)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what is looked for)
            findings.add(error, data)

    os.nice(15)
    options = [
        f"-max_total_time={arguments.seconds}",
        f"-max_len={max_bytes}",
        f"-rss_limit_mb={memory_mb}",
        f"-timeout={SLOWEST_S}",
        f"-report_slow_units={SLOWEST_S}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        "-reload=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], guarded)
    atheris.Fuzz()
