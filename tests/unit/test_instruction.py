"""The instruction: how effects add up, and what an interpretation makes of the instruction before it."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvf.imaging.effects import MAX_AMOUNT
from irvf.instruction.instruction import EFFECT_KINDS, MAX_EFFECTS, Effect, Region, add_effects
from irvf.instruction.interpreters import default_interpreter
from irvf.instruction.tasks import VIEWING

PEOPLE = Region("person", objects=("person",))
BRIGHTER = Effect("illumination", 0.5)
DARKER = Effect("illumination", -0.5)
EFFECTS = st.builds(
    Effect,
    st.sampled_from(list(EFFECT_KINDS)),
    st.sampled_from([-1.0, -0.5, -0.25, 0.25, 0.5, 1.0]),
    st.sampled_from([None, PEOPLE, PEOPLE.complement()]),
)


def told(*texts):
    """Return the instruction in force after these texts."""
    current = None
    for sequence, text in zip(count(1), texts, strict=False):
        read = default_interpreter().interpret(text)
        assert read.accepted, read.message
        current = read.instruction(sequence, current, VIEWING)
    return current


def in_force(*texts):
    return [str(effect) for effect in told(*texts).effects]


def test_the_same_effect_again_makes_it_stronger():
    assert add_effects((BRIGHTER,), (BRIGHTER,)) == (Effect("illumination", 1.0),)


def test_the_opposite_takes_it_back():
    assert add_effects((BRIGHTER,), (DARKER,)) == ()
    assert add_effects((Effect("illumination", 1.0),), (DARKER,)) == (BRIGHTER,)
    assert add_effects((), (DARKER,)) == (DARKER,)


def test_no_effect_grows_beyond_the_strongest():
    effects = ()
    for _ in range(9):
        effects = add_effects(effects, (Effect("contrast", -1.0),))
    assert effects == (Effect("contrast", -MAX_AMOUNT),)
    assert add_effects(effects, (Effect("contrast", MAX_AMOUNT),)) == ()


def test_regions_are_apart():
    of_people = Effect("illumination", 0.5, PEOPLE)
    assert add_effects((BRIGHTER,), (of_people,)) == (BRIGHTER, of_people)
    assert add_effects((BRIGHTER, of_people), (DARKER,)) == (of_people,)


def test_noise_is_taken_away_and_never_added():
    less, more = Effect("denoising", 0.5), Effect("denoising", -0.5)
    assert add_effects((), (more,)) == ()
    assert add_effects((less,), (more,)) == ()
    assert add_effects((less,), (more, more)) == ()


@given(st.lists(st.lists(EFFECTS, max_size=5), max_size=6))
def test_whatever_is_added_each_effect_of_a_region_is_there_once_and_bounded(rounds):
    effects = ()
    for added in rounds:
        effects = add_effects(effects, tuple(added))
        keys = [(effect.kind, effect.region) for effect in effects]
        assert len(set(keys)) == len(keys)
        assert all(0 < abs(effect.amount) <= MAX_AMOUNT for effect in effects)
        assert all(effect.amount > 0 for effect in effects if effect.kind == "denoising")


def test_an_effect_says_what_it_does_and_where():
    assert str(BRIGHTER) == "brighter 0.5"
    assert str(Effect("inclination", -0.25, PEOPLE.complement())) == "visible 0.25 (all but person)"
    for kind in EFFECT_KINDS:
        for amount in (1.0, -1.0):
            assert str(Effect(kind, amount)).rstrip("01. ").strip(), kind


def test_the_complement_of_a_complement_is_the_region():
    rest = PEOPLE.complement()
    assert (rest.name, rest.inverted, rest.objects) == ("all but person", True, ("person",))
    assert rest.complement() == PEOPLE


def test_said_again_it_gets_stronger_up_to_the_strongest():
    assert in_force("make the people brighter") == ["brighter 0.5 (person)"]
    assert in_force("make the people brighter", "make the people brighter") == ["brighter 1 (person)"]
    assert in_force("a bit brighter", "much brighter") == ["brighter 1.2"]
    assert in_force(*["much sharper"] * 2) == ["sharper 2"]
    with pytest.raises(ValueError, match="changes nothing"):
        in_force(*["much sharper"] * 3)


def test_said_the_other_way_it_goes():
    assert in_force("brighter", "darker") == []
    assert in_force("brighter", "brighter", "darker") == ["brighter 0.5"]
    assert in_force("less noise", "sharper", "softer") == ["less noise 0.5"]


def test_a_reset_clears_what_was_before_and_keeps_what_comes_with_it():
    assert in_force("brighter", "less noise", "back to normal") == []
    assert in_force("brighter", "back to normal, and make it sharper") == ["sharper 0.5"]
    assert told("find the cars", "brighter", "reset").task.name == "detection"


def test_effects_leave_task_and_classes_as_they_are():
    current = told("find the cars", "make the background darker")
    assert (current.task.name, current.classes) == ("detection", ("car",))
    assert [str(effect) for effect in current.effects] == ["darker 0.5 (background)"]


def test_a_task_leaves_the_effects_as_they_are():
    current = told("find the cars", "darker", "segment the scene")
    assert (current.task.name, current.classes) == ("segmentation", ())
    assert [str(effect) for effect in current.effects] == ["darker 0.5"]


def test_effects_alone_mean_the_default_task_where_none_is_in_force():
    assert told("brighter").task == VIEWING
    with pytest.raises(ValueError, match="names no task"):
        default_interpreter().interpret("brighter").instruction(1)


def test_more_effects_than_a_frame_can_pay_for_are_refused():
    kinds = ("brighter", "sharper", "more contrast")
    texts = [f"{kind} on the {region}" for region in ("left", "right", "road") for kind in kinds]
    assert len(texts) == MAX_EFFECTS + 1
    current = told(*texts[:-1])
    assert len(current.effects) == MAX_EFFECTS
    read = default_interpreter().interpret(texts[-1])
    with pytest.raises(ValueError, match=f"9 effects would be in force, at most {MAX_EFFECTS} can be; reset"):
        read.instruction(9, current)
    assert len(default_interpreter().interpret(f"reset, {texts[-1]}").instruction(9, current).effects) == 1
    same = default_interpreter().interpret(texts[0]).instruction(9, current)
    assert len(same.effects) == MAX_EFFECTS


def test_an_accepted_text_becomes_an_instruction():
    instruction = default_interpreter().interpret("find  the\tpedestrians").instruction(7)
    assert instruction.text == "find the pedestrians"
    assert (instruction.task.name, instruction.classes, instruction.sequence) == ("detection", ("person",), 7)


def test_a_refused_text_becomes_none():
    with pytest.raises(ValueError, match="not understood"):
        default_interpreter().interpret("hello").instruction(8, told("find the cars"))
