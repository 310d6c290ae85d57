"""Fuzzes one target after the other and reports executions, coverage and findings; exit status 1 with a finding.

    python tests/fuzz/run.py --seconds 120 [--target images bags] [--report fuzz.md]

It needs atheris (requirements/fuzz.txt), which is no part of the test environment. A finding is an exception that the
target does not allow, or what ended its process. Its input lies in OUTPUT/TARGET/findings and is run again with
``python tests/fuzz/fuzz_TARGET.py --replay FILE``.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
_PROGRESS = re.compile(rb"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/")
_LEAST_S = 5
_STARTS = 30


@dataclass
class Course:
    """How the fuzzing of a target went.

    Attributes:
        seconds: of all its processes together.
        executions: of inputs.
        coverage: branches reached by the seeds and in the end.
        corpus: inputs that are kept because each reaches something of its own, of the seeds and in the end.
        ended: how processes ended before their time.
        error: the last lines of a process that did not begin.
    """

    seconds: float = 0.0
    executions: int = 0
    coverage: list[int] = field(default_factory=list)
    corpus: list[int] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    error: str = ""

    def follow(self, lines) -> list[str]:
        """Read what libFuzzer prints; return the last lines that are not its progress."""
        executions, others = 0, []
        for line in lines:
            found = _PROGRESS.match(line)
            if found is None:
                others = [*others[-30:], line.decode("utf-8", "replace").rstrip()]
                continue
            executions, coverage, _, corpus = map(int, found.groups())
            self.coverage = [*self.coverage[:1], coverage]
            self.corpus = [*self.corpus[:1], corpus]
        self.executions += executions
        return others


def fuzz(target: str, seconds: float, output: Path, scratch: str) -> Course:
    """Fuzz one target; start it again where an input ends its process."""
    command = [sys.executable, str(HERE / f"fuzz_{target}.py"), "--output", str(output / target)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": scratch, "OPENCV_LOG_LEVEL": "OFF"}
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    course = Course()
    begin_anew(output / target)
    for _ in range(_STARTS):
        left = seconds - course.seconds
        if left < _LEAST_S:
            break
        begin = time.monotonic()
        process = subprocess.Popen(  # noqa: S603  (this interpreter, arguments as a list)
            [*command, "--seconds", str(round(left))],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            said = course.follow(process.stderr)
            code = process.wait()
        finally:
            process.kill()
        course.seconds += time.monotonic() - begin
        if code == 0:
            continue
        if not course.coverage:
            course.error = "\n".join(said[-8:])
            break
        course.ended.append(next((line for line in said if "ERROR: libFuzzer" in line), f"exit code {code}"))
    return course


def findings(output: Path, target: str) -> list[Path]:
    """List the inputs that lead to a finding: to an exception, or to the end of the process."""
    folder = output / target / "findings"
    return sorted(path for kind in ("*.bin", "crash-*", "oom-*", "timeout-*", "leak-*") for path in folder.glob(kind))


def begin_anew(folder: Path) -> None:
    """Put the findings of the run before aside; those that did not end the process are tried again."""
    found, before, corpus = (folder / name for name in ("findings", "findings-before", "corpus"))
    if not found.is_dir():
        return
    shutil.rmtree(before, ignore_errors=True)
    found.rename(before)
    corpus.mkdir(exist_ok=True)
    for path in before.glob("*.bin"):
        shutil.copy(path, corpus)


def report(courses: dict[str, Course], output: Path) -> str:
    """Return the courses as a Markdown table, and the findings after it."""
    lines = [
        "| target | seconds | executions | a second | branches | corpus | findings |",
        "|---|---|---|---|---|---|---|",
    ]
    for target, course in courses.items():
        rate = course.executions / max(course.seconds, 1e-9)
        growth = [" to ".join(map(str, values)) or "-" for values in (course.coverage, course.corpus)]
        found = "did not run" if course.error else len(findings(output, target))
        lines.append(
            f"| {target} | {course.seconds:.0f} | {course.executions} | {rate:.0f} | {' | '.join(growth)} | {found} |"
        )
    for target, course in courses.items():
        if course.error:
            lines += ["", f"{target} did not run:", "", "```", course.error, "```"]
        for path in findings(output, target):
            text = path.with_suffix(".txt")
            said = text.read_text("utf-8").strip().splitlines()[-1] if text.is_file() else "ended the process"
            lines += ["", f"- {target}: {said[:300]} ({path.stat().st_size} bytes: {path})"]
        lines += [f"  - {line}" for line in dict.fromkeys(course.ended)]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="for each target (default: 120)")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=TARGETS, help="default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "fuzz", help="corpora and findings, kept")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    courses: dict[str, Course] = {}
    with tempfile.TemporaryDirectory(prefix="irvf-fuzz-") as scratch:
        for target in arguments.target:
            print(f"{target}: {arguments.seconds:.0f} s", flush=True)
            courses[target] = fuzz(target, arguments.seconds, arguments.output, scratch)
    text = report(courses, arguments.output)
    print(text)
    if arguments.report:
        arguments.report.write_text(f"# Fuzzing\n\n{text}\n", "utf-8")
    return int(any(course.error or findings(arguments.output, target) for target, course in courses.items()))


if __name__ == "__main__":
    sys.exit(main())
