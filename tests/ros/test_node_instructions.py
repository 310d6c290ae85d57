"""Instructions by topic and service: in force with the next pair, refused without harm, told to whoever asks."""

import time

import numpy as np
import pytest
from bench import LATCHED, PERIOD, START, image, rgb_image
from std_msgs.msg import String

from irvf_fusion_node.conversions import stamp_to_ns
from irvf_msgs.msg import ActiveInstruction, FusionStatus


@pytest.fixture
def detecting(active, known_detector):
    """A node whose detector sees a person and a car in every image."""
    return active(detector=known_detector, instruction__initial="viewing")


def fuse(bench, number):
    return bench.fuse(START + number * PERIOD, rgb=rgb_image(START + number * PERIOD, 480, 640))


def labels(out):
    return [entry.results[0].hypothesis.class_id for entry in out.detections.detections]


def test_a_change_is_in_force_with_the_next_pair(detecting):
    before = fuse(detecting, 0)
    assert (before.status.instruction_sequence, before.status.task, labels(before)) == (1, "viewing", [])
    for number, (text, task, classes, seen) in enumerate(
        [
            ("detect everything", "detection", [], ["person", "car"]),
            ("find the pedestrians", "detection", ["person"], ["person"]),
            ("cars, please!", "detection", ["car"], ["car"]),
            ("viewing", "viewing", [], []),
        ],
        start=1,
    ):
        answer = detecting.instruct(text)
        assert (answer.accepted, answer.task, list(answer.classes)) == (True, task, classes), answer.message
        assert answer.sequence == number + 1
        out = fuse(detecting, number)
        assert (out.status.instruction_sequence, out.status.task) == (answer.sequence, task)
        assert labels(out) == seen
        assert out.status.detections == len(seen)
    assert detecting.heard["active_instruction"][-1].outputs == ["image"]


@pytest.mark.parametrize(
    ("text", "classes", "seen"),
    [
        ("everything but cars", ["person", "bicycle"], ["person"]),
        ("detect all objects except people", ["bicycle", "car"], ["car"]),
        ("everything except people and bicycles", ["car"], ["car"]),
        ("no cars", ["person", "bicycle"], ["person"]),
    ],
)
def test_an_exception_leaves_the_other_classes_of_the_models(detecting, text, classes, seen):
    answer = detecting.instruct(text)
    assert (answer.accepted, answer.task, list(answer.classes)) == (True, "detection", classes), answer.message
    assert labels(fuse(detecting, 0)) == seen


@pytest.mark.parametrize(
    "text", ["", "   ", "bake a cake", "everything but cars and people and bicycles", "detect and segment", "\x00\x1b["]
)
def test_what_is_not_understood_changes_nothing(detecting, text):
    kept = detecting.instruct("find the cars")
    answer = detecting.instruct(text)
    assert not answer.accepted
    assert answer.message.endswith("kept 'find the cars' (detection)")
    assert 1 <= len(answer.suggestions) <= 3
    assert all(repr(suggestion) in answer.message for suggestion in answer.suggestions)
    answer = detecting.instruct(text)
    assert (answer.sequence, answer.task, list(answer.classes)) == (kept.sequence, "detection", ["car"])
    out = fuse(detecting, 0)
    assert (out.status.instruction_sequence, labels(out)) == (kept.sequence, ["car"])


@pytest.mark.parametrize("text", ["bake a cake", "everything but cars and people and bicycles", "detect and segment"])
def test_what_is_suggested_is_understood(detecting, text):
    suggestions = detecting.set_instruction(text).suggestions
    assert suggestions
    for suggestion in suggestions:
        assert detecting.set_instruction(suggestion).accepted, suggestion


def test_diagnostics_warn_of_a_refusal_until_the_next_good_instruction(active):
    bench = active()
    assert not bench.instruct("bake a cake").accepted
    parts = bench.diagnostics(lambda parts: parts["fusion"].values.get("instruction.refused") == "1", "counted")
    assert parts["instruction"].level == b"\x01"
    assert "cake" in parts["instruction"].message
    assert bench.instruct("viewing").accepted
    bench.diagnostics(lambda parts: parts["instruction"].level == b"\x00", "no warning left")


@pytest.mark.parametrize(
    "text",
    ["", "x" * 100_000, "find " * 20_000, "\x1b]0;owned\x07\x1b[2J\r\nERROR: fake line\u202eevil\x00", "\n" * 150],
    ids=["empty", "100 KB", "100 KB of words", "control characters", "newlines"],
)
def test_a_hostile_instruction_is_one_clean_line_of_the_log(active, text, capfd):
    bench = active()
    capfd.readouterr()
    for _ in range(3):
        assert not bench.instruct(text).accepted
    bench.fuse(START)
    bench.wait_for(bench.log_texts, "a warning")
    assert len(bench.log_texts()) == 1  # said once, counted thrice
    shown = capfd.readouterr().err
    (line,) = [line for line in shown.splitlines() if "instruction" in line]
    assert len(shown.splitlines()) == 1
    assert len(line) < 1000
    assert line.isprintable()
    bench.diagnostics(lambda parts: parts["fusion"].values.get("instruction.refused") == "3", "counted")
    kept = bench.heard["active_instruction"][-1].text
    assert len(kept) <= 200
    assert not kept or kept.isprintable()


def test_who_comes_late_hears_the_instruction_in_force(detecting):
    detecting.instruct("find the pedestrians")
    heard = []
    detecting.node.create_subscription(ActiveInstruction, "/fusion/active_instruction", heard.append, LATCHED)
    detecting.wait_for(lambda: heard, "the latched message")
    time.sleep(0.2)  # a second one would come at once
    assert [(message.text, message.sequence, list(message.classes)) for message in heard] == [
        ("find the pedestrians", 2, ["person"])
    ]


@pytest.mark.parametrize("text", ["detect cars", "bake a cake", "", "viewing", "segment the people"])
def test_the_service_answers_as_the_topic_does(detecting, text):
    published = detecting.instruct(text)
    answer = detecting.set_instruction(text)
    assert (answer.accepted, answer.message, answer.task, list(answer.classes), answer.confidence) == (
        published.accepted,
        published.message,
        published.task,
        list(published.classes),
        published.confidence,
    )
    assert answer.sequence == published.sequence + answer.accepted


def test_a_task_without_a_model_says_so(detecting):
    answer = detecting.instruct("segment the people")
    assert answer.accepted
    assert "segmentation" in answer.message
    assert answer.outputs == ["image"]
    out = fuse(detecting, 0)
    assert (out.status.task, labels(out)) == ("segmentation", [])


@pytest.fixture
def prompted(active, known_models):
    """A node whose fusion takes of the thermal plane: all under detection, half under saliency, nothing to view."""
    return active(model=known_models.fusion)


def flat_pair(stamp):
    thermal = image(np.full((96, 128), 200, np.uint8), "mono8", stamp, "thermal_optical")
    return thermal, image(np.full((96, 128, 3), 40, np.uint8), "rgb8", stamp, "rgb_optical")


def test_the_instruction_shapes_the_fused_image_from_the_next_pair_on(prompted):
    first = prompted.fuse(START, *flat_pair(START))
    grey = {1: first.image.data[0]}
    for number, text in enumerate(["detection", "saliency", "segmentation", "viewing"], start=1):
        answer = prompted.instruct(text)
        assert (answer.accepted, answer.prompt) == (True, "text")
        stamp = START + number * PERIOD
        out = prompted.fuse(stamp, *flat_pair(stamp))
        assert out.status.instruction_sequence == number + 1
        grey[number + 1] = out.image.data[0]
    assert grey == {n: pytest.approx(value, abs=1) for n, value in enumerate([40, 200, 120, 160, 40], start=1)}


def test_which_words_made_the_prompt_is_said(prompted, active):
    # The words say "detect", and are nearest to that; what they mean is viewing.
    answer = prompted.instruct("do not detect anything")
    assert (answer.task, answer.prompt) == ("viewing", "task")
    assert prompted.fuse(START, *flat_pair(START)).image.data[0] == pytest.approx(40, abs=1)
    values = prompted.diagnostics()["instruction"].values
    assert values["prompt"] == "task"
    # Refused: what is in force stays, and its prompt.
    assert prompted.instruct("bake a cake").prompt == "task"


def test_a_fusion_without_prompt_says_so(detecting):
    assert detecting.instruct("detection").prompt == ""
    assert detecting.diagnostics()["instruction"].values["prompt"] == "none"


def test_an_instruction_that_changes_all_the_time_loses_no_pair(prompted):
    texts = ["detection", "viewing", "saliency", "segment", "detect anything", "box"]
    stamps = [START + number * PERIOD for number in range(40)]
    for number, stamp in enumerate(stamps):
        prompted.instruction.publish(String(data=texts[number % len(texts)]))
        prompted.send(*flat_pair(stamp))
    prompted.wait_for(lambda: len(prompted.heard["status"]) == len(stamps), "a status for every pair")
    fused = [status for status in prompted.heard["status"] if status.outcome == FusionStatus.FUSED]
    wanted = {"detection": 200, "viewing": 40, "saliency": 120, "segmentation": 160}
    prompted.wait_for(lambda: len(prompted.heard["image"]) >= len(fused), "their images")
    images = {stamp_to_ns(message.header.stamp): message.data[0] for message in prompted.heard["image"]}
    assert fused
    for status in fused:  # each image is that of the instruction which its status names
        assert images[stamp_to_ns(status.header.stamp)] == pytest.approx(wanted[status.task], abs=1)
    assert not [status for status in prompted.heard["status"] if status.outcome == FusionStatus.REFUSED]


def test_classes_are_checked_by_the_head_of_the_task(active, known_models, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text("classes:\n  dog: [puppy]\n")
    bench = active(**{"segmentation.model": known_models.segmentation, "instruction.tasks_file": str(words)})
    answer = bench.instruct("segment the dogs")
    assert not answer.accepted
    assert "segmentation model does not know dog; it knows background, person, bicycle, car" in answer.message
    assert bench.instruct("segment the cars").accepted
    assert bench.instruct("a nice picture of the dogs").accepted


def test_an_instruction_given_before_activation_is_in_force_after_it(bench):
    made = bench()
    assert made.change_state("configure")
    assert made.set_instruction("saliency").accepted
    assert made.change_state("activate")
    made.wait_for(made.is_connected, "the node subscribes")
    made.wait_for(lambda: made.heard["active_instruction"], "the instruction in force")
    assert made.heard["active_instruction"][-1].task == "saliency"
    assert made.fuse(START).status.instruction_sequence == 2


DOGS = (("dog", (100, 120, 40, 80), 0.9), ("person", (400, 300, 100, 50), 0.8))


def test_classes_of_a_users_own_detector_are_understood_by_their_names(active, make_detector):
    bench = active(detector=make_detector("farm", ("person", "dog", "fork_lift"), DOGS))
    for number, (text, classes, seen) in enumerate(
        [
            ("find the dogs", ["dog"], ["dog"]),
            ("detect dogs and fork lifts", ["dog", "fork_lift"], ["dog"]),
            ("everything except dogs", ["person", "fork_lift"], ["person"]),
            ("find everything", [], ["dog", "person"]),
        ]
    ):
        answer = bench.instruct(text)
        assert answer.accepted, answer.message
        assert set(answer.classes) == set(classes), text
        assert sorted(labels(fuse(bench, number))) == sorted(seen), text
    answer = bench.instruct("find the cars")  # the grammar knows them, this detector does not
    assert not answer.accepted
    assert "car" in answer.message


def test_an_exception_of_all_that_the_detector_knows_is_refused(active, make_detector):
    objects = (("person", (100, 120, 40, 80), 0.9), ("car", (400, 300, 100, 50), 0.8))
    bench = active(detector=make_detector("two", ("person", "car"), objects))
    answer = bench.instruct("everything except people and cars")
    assert not answer.accepted
    assert "leaves no class" in answer.message
    assert labels(fuse(bench, 0)) == []  # still viewing
    assert list(bench.instruct("everything except people").classes) == ["car"]
    assert labels(fuse(bench, 1)) == ["car"]
    assert not bench.instruct("everything except people and cars").accepted
    assert labels(fuse(bench, 2)) == ["car"]
