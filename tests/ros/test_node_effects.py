"""Effects by topic and service: seen in the image from the next pair on, told of, and kept until they are reset."""

import numpy as np
import pytest
from bench import LATCHED, PERIOD, START, image

from irvf_msgs.msg import ActiveInstruction

HEIGHT, WIDTH = 480, 640
PERSON = np.s_[100:140, 88:112]
"""Inside the box in which the known detector sees a person."""
ELSEWHERE = np.s_[300:460, 450:620]
"""Far from both of its boxes."""


@pytest.fixture
def looking(active, known_detector):
    """A node whose detector sees a person and a car in every image."""
    return active(detector=known_detector)


def fused(bench, number):
    """Fuse a grey scene that has a finer pattern on it; return the luma of what is published."""
    stamp = START + number * PERIOD
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    grey = (100 + 20 * np.sin(columns / 5) * np.sin(rows / 5)).astype(np.uint8)
    rgb = image(np.repeat(grey[..., None], 3, axis=2), "rgb8", stamp, "rgb_optical")
    out = bench.fuse(stamp, image(np.zeros((HEIGHT, WIDTH), np.uint8), "mono8", stamp, "thermal_optical"), rgb)
    return np.frombuffer(out.image.data, np.uint8).reshape(HEIGHT, WIDTH, 3).mean(axis=2)


def by_topic(bench, text):
    return bench.instruct(text)


def by_service(bench, text):
    return bench.set_instruction(text)


@pytest.mark.parametrize("give", [by_topic, by_service])
def test_an_effect_shows_from_the_next_pair_on_grows_with_repetition_and_ends_with_reset(looking, give):
    plain = fused(looking, 0)
    brightness = [plain.mean()]
    for number, effects in enumerate([["brighter 0.5"], ["brighter 1"]], start=1):
        answer = give(looking, "make it brighter")
        assert (answer.accepted, list(answer.effects)) == (True, effects), answer.message
        brightness.append(fused(looking, number).mean())
        looking.wait_for(lambda told=effects: list(looking.heard["active_instruction"][-1].effects) == told, "told")
    assert brightness[1] > brightness[0] + 5
    assert brightness[2] > brightness[1] + 5
    answer = give(looking, "back to normal")
    assert (answer.accepted, list(answer.effects)) == (True, [])
    np.testing.assert_array_equal(fused(looking, 3), plain)


def test_an_effect_is_taken_back_by_its_opposite(looking):
    plain = fused(looking, 0)
    looking.instruct("darker")
    assert fused(looking, 1).mean() < plain.mean() - 5
    assert list(looking.instruct("brighter").effects) == []
    np.testing.assert_array_equal(fused(looking, 2), plain)


def test_an_effect_of_a_region_shows_there_alone_though_nobody_asked_for_detections(looking):
    plain = fused(looking, 0)
    answer = looking.instruct("make the people brighter")
    assert (answer.accepted, answer.task, list(answer.effects)) == (True, "viewing", ["brighter 0.5 (person)"])
    changed = fused(looking, 1)
    assert (changed[PERSON] > plain[PERSON] + 5).all()
    assert abs(changed[ELSEWHERE] - plain[ELSEWHERE]).max() < 1
    assert list(looking.heard["detections"][-1].detections) == []
    answer = looking.instruct("reset, and make the background darker")
    assert list(answer.effects) == ["darker 0.5 (background)"], answer.message
    changed = fused(looking, 2)
    assert abs(changed[PERSON] - plain[PERSON]).max() < 1
    assert (changed[ELSEWHERE] < plain[ELSEWHERE] - 5).all()


def test_a_task_and_an_effect_in_one_sentence(looking):
    answer = looking.instruct("find the people and make the background darker")
    assert (answer.task, list(answer.classes)) == ("detection", ["person"])
    assert list(answer.effects) == ["darker 0.5 (background)"]
    fused(looking, 0)
    assert [entry.results[0].hypothesis.class_id for entry in looking.heard["detections"][-1].detections] == ["person"]


def test_effects_and_task_change_each_without_the_other_and_the_answer_says_what_stays(looking):
    dark = looking.instruct("make it darker")
    assert dark.message.endswith("still viewing")
    changed = fused(looking, 0)
    answer = looking.instruct("find the cars")
    assert (answer.task, list(answer.classes), list(answer.effects)) == ("detection", ["car"], ["darker 0.5"])
    assert "effects in force: darker 0.5" in answer.message
    np.testing.assert_array_equal(fused(looking, 1), changed)
    answer = looking.instruct("more contrast")
    assert (answer.task, list(answer.classes)) == ("detection", ["car"])
    assert list(answer.effects) == ["darker 0.5", "more contrast 0.5"]
    assert "still detection of car" in answer.message
    assert "effects in force: darker 0.5, more contrast 0.5" in answer.message
    answer = looking.instruct("reset")
    assert (answer.task, list(answer.classes), list(answer.effects)) == ("detection", ["car"], [])
    values = looking.diagnostics(lambda parts: parts["instruction"].values["effects"] == "none", "said")["instruction"]
    assert values.values["classes"] == "car"


def test_a_refusal_keeps_the_effects_and_names_what_stays_in_force(looking):
    kept = looking.instruct("darken the image")
    before = fused(looking, 0)
    for give in (by_topic, by_service):
        answer = give(looking, "bake a cake")
        assert not answer.accepted
        assert "kept 'darken the image' (viewing)" in answer.message
        assert (answer.sequence, list(answer.effects)) == (kept.sequence, ["darker 0.5"])
        assert 1 <= len(answer.suggestions) <= 3
    np.testing.assert_array_equal(fused(looking, 1), before)


def test_more_effects_than_a_frame_may_cost_are_refused(looking):
    texts = ["brighter", "more contrast", "less noise", "sharper", "more thermal"]
    texts += [f"{text} on the left" for text in ("brighter", "more contrast", "sharper", "less noise")]
    answers = [looking.instruct(text) for text in texts]
    assert [answer.accepted for answer in answers] == [True] * 8 + [False]
    assert "at most 8" in answers[-1].message
    assert len(answers[-1].effects) == 8
    fused(looking, 0)


def test_a_region_of_objects_without_a_detector_is_refused_with_the_reason(active):
    bench = active()
    answer = bench.instruct("make the people brighter")
    assert not answer.accepted
    assert "the region person needs a detector, and none is loaded" in answer.message
    assert (answer.sequence, list(answer.effects)) == (1, [])
    answer = bench.instruct("make the left brighter")  # a part of the image needs none
    assert list(answer.effects) == ["brighter 0.5 (left)"], answer.message
    changed = fused(bench, 0)
    assert changed[:, :100].mean() > changed[:, -100:].mean() + 5


def test_who_comes_late_hears_the_effects_and_so_does_the_next_life(looking):
    looking.instruct("make it brighter")
    heard = []
    looking.node.create_subscription(ActiveInstruction, "/fusion/active_instruction", heard.append, LATCHED)
    looking.wait_for(lambda: heard, "the latched message")
    assert list(heard[0].effects) == ["brighter 0.5"]
    for transition in ("deactivate", "activate"):
        assert looking.change_state(transition)
    looking.wait_for(lambda: list(heard[-1].effects) == ["brighter 0.5"] and len(heard) > 1, "told again")
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert looking.change_state(transition)
    looking.wait_for(lambda: list(heard[-1].effects) == [], "a new life begins without")
