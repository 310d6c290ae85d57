"""``irvf instruct`` as a user runs it, against a node that is there, is not, or has other things to do."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from std_msgs.msg import String

REPOSITORY = Path(__file__).resolve().parents[2]


def instruct(*arguments):
    command = [sys.executable, "-m", "irvf.cli", "instruct", *arguments]
    return subprocess.run(  # noqa: S603 - our own command
        command, cwd=REPOSITORY, capture_output=True, check=False, text=True, timeout=120
    )


def check_clean(result):
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 1


def test_what_is_understood_is_in_force_and_shown(active, known_detector):
    bench = active(detector=known_detector)
    result = instruct("find the people and make the background darker", "--timeout", "60")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "detection of person; darker 0.5 (background)"
    assert {line[:13].strip(): line[13:] for line in result.stdout.splitlines()[1:]} == {
        "in force": "detection (number 2)",
        "classes": "person",
        "effects": "darker 0.5 (background)",
        "published": "image, detections",
    }
    assert bench.heard["active_instruction"][-1].sequence == 2  # given once
    check_clean(result)


@pytest.mark.parametrize("text", ["x" * 300, "--help me", "bake a \udcff\udcfe"])
def test_what_is_refused_is_said_and_what_stays_in_force(active, text):
    active()
    result = instruct("--timeout=60", "--", text)
    assert result.returncode == 1, result.stderr
    assert "kept 'viewing' (viewing)" in result.stdout
    assert "viewing (number 1)" in result.stdout
    check_clean(result)


def test_the_answer_is_to_ones_own_text_while_others_give_theirs(active):
    bench = active()
    ended = threading.Event()

    def flood():
        while not ended.wait(0.005):
            bench.instruction.publish(String(data="x" * 300))

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        results = [instruct(text, "--timeout", "60") for text in ("saliency", "bake a cake")]
    finally:
        ended.set()
        thread.join(5)
    # Read, or overtaken by one of the others, and then that is said.
    for result, code, word in zip(results, (0, 1), ("saliency", "cake"), strict=True):
        read = (result.returncode, word in result.stdout.splitlines()[0]) == (code, True)
        overtaken = result.returncode == 1 and result.stdout.startswith("not read: a newer instruction came")
        assert read or overtaken, result.stdout
        assert "not active" not in result.stdout
        check_clean(result)


def test_an_inactive_node_takes_it_and_says_that_nothing_is_published(bench):
    made = bench()
    assert made.change_state("configure")
    result = instruct("saliency", "--timeout", "60")
    assert result.returncode == 0, result.stderr
    assert "the node is not active" in result.stdout
    assert "saliency (number 2)" in result.stdout
    assert made.change_state("activate")
    made.wait_for(lambda: made.heard["active_instruction"], "the instruction in force")
    assert made.heard["active_instruction"][-1].task == "saliency"


@pytest.mark.parametrize("lifecycle", ["unconfigured", "no node", "another namespace"])
def test_without_a_node_that_could_take_it_that_is_said_in_time(bench, lifecycle):
    if lifecycle != "no node":
        made = bench()
        assert lifecycle == "unconfigured" or made.change_state("configure")
    options = ["--namespace", "/elsewhere"] if lifecycle == "another namespace" else []
    begin = time.monotonic()
    result = instruct("viewing", "--timeout", "1", *options)
    assert result.returncode == 2
    assert time.monotonic() - begin < 20  # most of it is starting Python twice
    assert "ROS_DOMAIN_ID" in result.stderr
    check_clean(result)


def test_a_namespace_that_is_none_is_one_line(ros_domain):
    result = instruct("viewing", "--namespace", "/fu sion")
    assert result.returncode == 2
    assert "'/fu sion'" in result.stderr
    check_clean(result)
