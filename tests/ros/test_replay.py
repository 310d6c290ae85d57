"""`irvf replay`: the real node and a bag of the simulated rig; everything that was sent is accounted for."""

import json
import os
import subprocess
import sys

import cv2
import pytest
from simulated_rig import RigConfig
from simulated_rig.bag import write_recording

from irvf.bags import open_bag

SEQUENCE = RigConfig(duration_s=2.0, rate_hz=15.0, light="day", supersampling=1)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    bag = tmp_path_factory.mktemp("rig") / "rig.mcap"
    parameters, _ = write_recording(bag, SEQUENCE, progress=False)
    return bag, parameters


def replay(*arguments):
    command = [sys.executable, "-m", "irvf.cli", "replay", *map(str, arguments)]
    return subprocess.run(  # noqa: S603  (a fixed command)
        command, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def replayed(recording, tmp_path_factory):
    bag, parameters = recording
    out = tmp_path_factory.mktemp("out")
    options = ("--out", out, "--params-file", parameters, "--model", "laplacian", "--instruction", "find the cars")
    result = replay(bag, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    return out, json.loads((out / "summary.json").read_text())


def test_every_frame_that_was_sent_is_accounted_for(replayed):
    _, summary = replayed
    pairs = summary["pairs"]
    assert summary["messages_sent"]["/thermal/image_raw"] == summary["messages_sent"]["/rgb/image_raw"] == 30
    assert pairs["formed"] + sum(summary["frames_dropped_by_reason"].values()) // 2 == 30
    assert pairs["formed"] == pairs["fused"] + pairs["superseded"] + pairs["refused"]
    assert pairs["fused"] > 0


def test_the_instruction_changes_half_way(replayed):
    _, summary = replayed
    assert list(summary["instructions"]) == ["viewing", "find the cars"]
    assert all(entry["fused_pairs"] > 0 for entry in summary["instructions"].values())
    assert not summary["instructions"]["viewing"]["detections"]
    assert set(summary["instructions"]["find the cars"]["detections"]) <= {"car"}


def test_latency_of_every_stage_is_reported(replayed):
    _, summary = replayed
    stages = summary["latency_ms"]
    assert {"wait", "decode", "thermal range", "register", "fuse", "detect", "publish", "total"} <= set(stages)
    assert all(0 <= times["p50"] <= times["p95"] for times in stages.values())


def test_the_recorded_bag_holds_the_answers_in_the_time_of_the_bag(replayed, recording):
    out, summary = replayed
    with open_bag(recording[0]) as played, open_bag(out / "fused.mcap") as answers:
        topics = {name: info.msgcount for name, info in answers.topics.items()}
        assert played.start_time <= answers.start_time + 1_000_000_000
        assert answers.end_time <= played.end_time
    # Depth 1, the newest wins: a busy machine may not record every image.
    assert 0 < topics["/fusion/image"] <= summary["pairs"]["fused"]
    assert topics["/fusion/status"] == summary["pairs"]["formed"]


def test_the_contact_sheet_has_a_row_before_and_after(replayed):
    out, _ = replayed
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    # Four columns of 4:3 pictures and two rows of them, with titles.
    height, width = sheet.shape[:2]
    assert 2 * (width / 4) * 0.75 * 0.9 < height < 2 * (width / 4) * 0.75 * 1.3


def test_topics_that_do_not_match_list_what_the_bag_holds(recording, tmp_path):
    result = replay(recording[0], "--out", tmp_path, "--thermal-topic", "/nowhere")
    assert result.returncode == 2
    assert "/nowhere" in result.stderr
    assert "/rgb/image_raw  sensor_msgs/msg/Image  30 messages" in result.stderr


def test_a_node_that_cannot_start_ends_the_replay_with_its_reason(recording, tmp_path):
    result = replay(recording[0], "--out", tmp_path, "--model", "no_such_model", "--timeout", "5")
    assert result.returncode == 2
    assert "no model 'no_such_model'" in result.stderr


def test_an_instruction_that_is_not_understood_is_said_in_the_summary(recording, tmp_path):
    options = ("--out", tmp_path, "--model", "max", "--initial", "don't draw boxes", "--instruction", "bake a cake")
    result = replay(recording[0], *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "instruction refused" in result.stdout
    (refusal,) = json.loads((tmp_path / "summary.json").read_text())["instructions_refused"]
    assert "bake a cake" in refusal


def test_what_the_command_says_wins_over_the_users_parameters(recording, tmp_path):
    mine = tmp_path / "mine.yaml"
    sections = ("/**", "/fusion/irvf_fusion_node")
    mine.write_text("".join(f"{name}:\n  ros__parameters: {{model: average}}\n" for name in sections))
    result = replay(recording[0], "--out", tmp_path, "--params-file", mine, "--model", "max", "--rate", "4")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "model max" in (tmp_path / "node.log").read_text()
