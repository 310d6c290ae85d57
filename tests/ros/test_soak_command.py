"""`irvf soak`: the real command, the real node, and what a short run tells; a node that ends early is said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irvf_fusion_node.soak import CHANGES, REFUSED, TEXTS, texts

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ("model:=max", "detector:=", "segmentation.model:=", "saliency.model:=")


def command(*arguments):
    given = [word for parameter in PLAIN for word in ("--parameter", parameter)]
    sizes = ("--size", "128x96", "--thermal-size", "64x48", "--rate", "20")
    return [sys.executable, "-m", "irvf.cli", "soak", *given, *sizes, *map(str, arguments)]


def start(*arguments):
    return subprocess.Popen(  # noqa: S603  (a fixed command)
        command(*arguments), env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """A quarter of a minute: long enough for every answer, too short to be judged by its latency."""
    folder = tmp_path_factory.mktemp("soak")
    process = start("--minutes", 0.25, "--output", folder)
    output, _ = process.communicate(timeout=150)
    return process.returncode, output, folder


def test_a_short_run_writes_report_figures_and_plot(short_run):
    code, output, folder = short_run
    assert {path.name for path in folder.iterdir()} >= {"soak.md", "soak.json", "soak.png", "node.log"}
    content = json.loads((folder / "soak.json").read_text())
    broken = [check["name"] for check in content["checks"] if not check["holds"]]
    assert code == (1 if broken else 0), output
    assert content["verdict"] == ("FLAT" if not broken else f"NOT FLAT: {', '.join(broken)}")
    assert f"**{content['verdict']}**" in (folder / "soak.md").read_text()
    assert (folder / "soak.md").read_text().strip() in output


def test_the_process_is_read_again_and_again(short_run):
    *_, folder = short_run
    content = json.loads((folder / "soak.json").read_text())
    samples = content["samples"]
    assert len(samples) > 30
    assert all(sample["private"] <= sample["resident"] for sample in samples)
    assert all(sample["private"] > 20e6 and sample["files"] > 3 and sample["threads"] > 3 for sample in samples)
    assert samples[-1]["processor_s"] > samples[0]["processor_s"]
    names = {check["name"] for check in content["checks"]}
    assert names >= {"private memory, slope", "open files", "threads", "latency, p95", "pairs dropped", "the node ends"}


def test_every_pair_is_accounted_for(short_run):
    *_, folder = short_run
    pairs = json.loads((folder / "soak.json").read_text())["pairs"]
    assert len(pairs["sent_s"]) == 300
    assert set(pairs["outcome"]) <= {"fused", "superseded", "refused", "not paired", "rgb only", "thermal only"}
    assert pairs["outcome"].count("fused") > 150
    # A pair has a latency only when it was fused.
    known = [outcome for outcome, latency in zip(pairs["outcome"], pairs["latency_ms"], strict=True) if latency]
    assert set(known) == {"fused"}


def test_instructions_and_changes_are_answered_as_they_should_be(short_run):
    *_, folder = short_run
    asked = json.loads((folder / "soak.json").read_text())["disturbances"]
    assert asked["given"]["parameter changes"] >= 2 * len(CHANGES) + len(REFUSED)
    assert asked["answered"]["parameter changes"] == asked["given"]["parameter changes"]
    assert asked["given"]["instructions"] >= 2 * len(TEXTS)
    assert asked["answered"]["instructions"] >= 0.8 * asked["given"]["instructions"]  # so often, some come too fast
    # The plain node has no head for the tasks, which is no wrong answer.
    assert asked["wrong"] == []


def test_every_cycle_has_sentences_that_were_not_given_before():
    given = texts()
    first = [next(given) for _ in range(200)]
    fixed = {text for text, _ in TEXTS}
    new = [text for text in first if text not in fixed]
    assert len(new) == len(set(new)) == 100


def test_a_node_that_dies_is_not_flat(tmp_path):
    process = start("--minutes", 5, "--output", tmp_path)
    try:
        log, end = tmp_path / "node.log", time.monotonic() + 60
        while not (log.exists() and "warm after" in log.read_text()):
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(4)
        (node,) = [pid for pid in children(process.pid) if "-m\0irvf_fusion_node\0" in command_line(pid)]
        os.kill(node, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode == 1, output
    report = (tmp_path / "soak.md").read_text()
    assert "NOT FLAT: the node ends" in report
    assert "exit code -9" in report
    assert (tmp_path / "soak.png").exists()


def children(pid):
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()
