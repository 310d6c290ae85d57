"""What instructions point to, spare and take back: in one text, and from one to the next."""

import pytest

from irvf.instruction.interpreters import default_interpreter, load_interpreter
from irvf.instruction.tasks import VIEWING


def answers(*texts):
    """Give texts one after the other, as the node gets them; return the answers and what is in force in the end."""
    current, said = None, []
    for text in texts:
        read = default_interpreter().interpret(text, current)
        said.append(read.message)
        if read.accepted:
            current = read.instruction(1, current, default=VIEWING)
    return said, current


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("make the people and the cars brighter", "brighter 0.5 (person); brighter 0.5 (car)"),
        ("left and right brighter", "brighter 0.5 (left); brighter 0.5 (right)"),
        (
            "find people and cars and brighten them",
            "detection of person, car; brighter 0.5 (person); brighter 0.5 (car)",
        ),
        ("blur everything but the people and cars", "softer 0.5 (all but person and car)"),
        ("brighten the people but not the cars", "brighter 0.5 (person)"),
        ("blur everything, but don't blur the people", "no longer softer (person); softer 0.5 (all but person)"),
        ("don't make it darker", "no longer darker"),
        ("do not make the people brighter", "no longer brighter (person)"),
        ("don't make it brighter, make it darker", "no longer brighter; darker 0.5"),
        ("ne floute pas les gens", "no longer softer (person)"),
        ("no lo hagas más brillante", "no longer brighter"),
        ("no more blur", "sharper 0.5"),
        ("remove the glare", "darker 0.5"),
        ("模糊背景", "softer 0.5 (background)"),
        ("make the left brighter than the right", "brighter 0.5 (left)"),
        ("ignore everything but people", "detection of person"),
        ("cars + people, more contrast, denoise", "detection of person, car; more contrast 0.5; less noise 0.5"),
        ("make the people more visible", "more contrast 0.5 (person)"),
        ("more visible", "visible 0.5"),
        ("make it dark", "darker 0.5"),
        ("it is dark", "brighter 0.5"),
        ("make it blurry", "softer 0.5"),
        ("make the sky dark and the people bright", "darker 0.5 (sky); brighter 0.5 (person)"),
        ("mach die Fußgänger scharf und den Hintergrund unscharf", "sharper 0.5 (person); softer 0.5 (background)"),
        ("la imagen está oscura", "brighter 0.5"),
        ("只看行人", "detection of person"),
        ("find trucks and cars", "detection of car; not known to the models: truck"),
    ],
)
def test_a_text_means(text, message):
    assert answers(text)[0] == [message]


@pytest.mark.parametrize(
    "text",
    [
        "find cars but not cars",
        "make it brighter and darker",
        "don't blur, blur",
        "make them brighter",
        "blur the rest",
        "blur faces",
        "off",
        "drop table tasks",
        "it is not too dark",
    ],
)
def test_a_text_means_nothing_by_itself(text):
    said, current = answers(text)
    assert current is None
    assert said[0].startswith("not understood")


def test_pronouns_point_to_what_is_in_force():
    said, current = answers("only the cyclists", "make them a bit brighter", "blur the rest")
    assert said == ["detection of bicycle", "brighter 0.25 (bicycle)", "softer 0.5 (all but bicycle)"]
    assert (current.task.name, current.classes) == ("detection", ("bicycle",))
    assert list(map(str, current.effects)) == ["brighter 0.25 (bicycle)", "softer 0.5 (all but bicycle)"]


def test_an_effect_ends_alone():
    _, current = answers("brighter", "less noise", "stop brightening")
    assert list(map(str, current.effects)) == ["less noise 0.5"]
    _, current = answers("brighter", "less noise", "reset the brightness")
    assert list(map(str, current.effects)) == ["less noise 0.5"]


def test_effects_alone_leave_the_prompt_to_what_asked_for_the_task():
    _, current = answers("where are the hikers?", "much brighter")
    assert (current.text, current.wording) == ("much brighter", "where are the hikers?")


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("only dogs", ("dog",)),
        ("no dogs", ("person", "Pedestrian light", "bus")),
        ("everything but dogs and buses", ("person", "Pedestrian light")),
        ("only buses", ("bus",)),
    ],
)
def test_labels_of_a_detector_are_spoken_of_as_others_are(text, classes):
    labels = ("person", "dog", "Pedestrian light", "bus")
    interpreter = load_interpreter(known_classes={"detection": labels})
    assert set(interpreter.interpret(text).classes) == set(classes)


def test_what_a_detector_calls_otherwise_is_found_by_the_words_for_it():
    interpreter = load_interpreter(known_classes={"detection": ("Pedestrian", "car")})
    assert interpreter.interpret("find the people").classes == ("Pedestrian",)
    assert interpreter.interpret("everything except hikers").classes == ("car",)


def test_an_exception_leaves_what_the_heads_of_the_task_know():
    interpreter = load_interpreter(
        known_classes={"detection": ("person", "car", "truck"), "segmentation": ("car", "sky")}
    )
    assert interpreter.interpret("detect everything except cars").classes == ("person", "truck")
    assert interpreter.interpret("segment everything except cars").classes == ("sky",)
