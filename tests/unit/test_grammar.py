"""The grammar: what the package knows, what users add to it, and that a file with a mistake is refused naming it."""

import pytest
import yaml

from irvf.instruction.grammar import LANGUAGES, GrammarError, load_grammar
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.interpreters import default_interpreter, load_interpreter

HEADS = {"detection": ("detection",), "segmentation": ("segmentation",), "saliency": ("saliency",), "viewing": ()}


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "mine.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
        return path

    return write


@pytest.fixture
def reading(written):
    """Return a function that reads a text by a user's file, words alone."""

    def read(content, text):
        return Interpreter(load_grammar(written(content))).interpret(text)

    return read


def test_the_tasks_run_the_heads_of_their_names():
    grammar = load_grammar()
    assert {name: task.heads for name, task in grammar.tasks.items()} == HEADS
    assert grammar.classes == ("person", "bicycle", "car")
    assert grammar.known == {}
    assert tuple(language.name for language in grammar.languages) == LANGUAGES


def test_every_class_is_a_region_and_zones_lie_in_the_image():
    grammar = load_grammar()
    assert {*grammar.classes, "background", "objects", "road", "sky"} <= set(grammar.regions)
    for name in grammar.classes:
        assert grammar.regions[name].objects == (name,)
    for name, region in grammar.regions.items():
        assert bool(region.zone) != (region.objects is not None), name
        assert all(0 <= number <= 1 for corner in region.zone for number in corner), name


def test_every_suggestion_is_understood_as_what_it_is_suggested_for():
    for label, samples in load_grammar().samples.items():
        for sample in samples:
            read = default_interpreter().interpret(sample)
            assert read.accepted, sample
            assert read.label == label, sample


def test_every_class_word_of_english_is_understood():
    phrases = load_grammar().languages[0].phrases
    # "nobody" is a person, and a negation.
    words = {" ".join(words): senses["class"] for words, senses in phrases.items() if set(senses) == {"class"}}
    assert len(words) > 100
    interpreter = load_interpreter(encoder="")
    for word, name in words.items():
        assert interpreter.interpret(f"detect the {word}").classes == (name,), word


def test_no_word_of_english_has_two_uses():
    english = load_grammar().languages[0]
    assert not [words for words, senses in english.phrases.items() if {"task", "class"} <= set(senses)]


USERS = """
tasks:
  patrol:
    description: Boxes and eye catchers around the house.
    phrases: [patrol, guard the yard, keep ... safe, "on"]
    heads: [detection, saliency]
    classes: [person]
classes:
  person: [burglar]
  dog: [hound]
regions:
  gate: {phrases: [gate, way in], zone: [[0, 0], [0.2, 0], [0.2, 1]]}
  traffic: {phrases: [traffic], objects: [car, bicycle]}
  calm: {phrases: [calm part], objects: [car, bicycle], inverted: true}
effects:
  illumination: {more: [glowup], less: [gloomify], cure: [murky]}
fillers: [hey, chappie]
"""


@pytest.fixture(scope="module", params=["sentence-encoder", ""], ids=["meaning", "words"])
def users(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("users") / "mine.yaml"
    path.write_text(USERS)
    return load_interpreter(path, encoder=request.param)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patrol", "patrol of person"),
        ("Hey Chappie, guard the yard!", "patrol of person"),
        ("keep us all safe please", "patrol of person"),
        ("patrol the cars", "patrol of car"),
        ("find burglars and hounds", "detection of person, dog"),
        ("find pedestrians", "detection of person"),
        ("everything except hounds", "detection of person, bicycle, car"),
        ("make the gate brighter", "brighter 0.5 (gate)"),
        ("darken the way in", "darker 0.5 (gate)"),
        ("darken the traffic", "darker 0.5 (traffic)"),
        ("brighten the calm part", "brighter 0.5 (calm)"),
        ("sharpen the dogs", "sharper 0.5 (dog)"),
        ("glowup", "brighter 0.5"),
        ("gloomify the people", "darker 0.5 (person)"),
        ("it is murky", "brighter 0.5"),
        ("patrol and make the gate brighter", "patrol of person; brighter 0.5 (gate)"),
    ],
)
def test_users_add_tasks_classes_regions_effects_and_fillers(users, text, message):
    read = users.interpret(text)
    assert read.accepted, read.message
    assert read.message == message


def test_what_users_add_is_as_they_say(users):
    assert users.interpret("patrol").task.heads == ("detection", "saliency")
    region = users.interpret("make the gate brighter").effects[0].region
    assert (region.zone, region.objects) == (((0, 0), (0.2, 0), (0.2, 1)), None)
    assert users.interpret("darken the traffic").effects[0].region.objects == ("car", "bicycle")
    assert users.interpret("darken the calm part").effects[0].region.inverted
    assert users.interpret("no patrol").task != users.interpret("patrol").task


def test_what_users_add_is_suggested(users):
    assert "guard the yard" in users.interpret("guard the zoo").suggestions


def test_what_one_user_adds_is_not_there_for_others(written):
    load_grammar(written(USERS))
    assert not Interpreter(load_grammar()).interpret("glowup").accepted
    assert not Interpreter(load_grammar()).interpret("guard the yard").accepted


def test_a_users_task_replaces_one_of_the_same_name(reading):
    content = "tasks: {viewing: {description: Look., phrases: [behold], heads: [saliency]}}"
    assert reading(content, "behold").task.heads == ("saliency",)
    assert reading(content, "viewing").task.heads == ("saliency",)
    assert not reading(content, "raw picture").accepted
    assert reading("fillers: [behold]", "raw picture").task.name == "viewing"


def test_a_users_task_may_be_called_as_a_class(reading):
    content = "tasks: {hiker: {description: d, phrases: [hiker], heads: [saliency]}}"
    assert reading(content, "hiker").task.name == "hiker"
    assert reading("fillers: [x]", "hiker").task.name == "detection"


def test_a_users_region_of_objects_may_be_named_as_a_class(reading):
    read = reading("regions: {crowd: {phrases: [people], objects: [person, bicycle]}}", "make the people brighter")
    assert read.effects[0].region.objects == ("person", "bicycle")


def test_users_phrases_may_have_umlauts_and_alternatives(reading):
    content = "tasks: {wacht: {description: d, phrases: ['(hof|haus)wächter'], heads: []}}"
    for text in ("Hofwächter", "hauswaechter", "HAUSWÄCHTER bitte"):
        assert reading(content, text).task.name == "wacht", text


TASK = "tasks: {patrol: {description: d, phrases: %s, heads: %s}}"
REGION = "regions: {gate: {%s}}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("- detection", "sections tasks, classes, regions, effects, fillers"),
        ("", "must be a mapping"),
        ("tasks: [unclosed", "YAML"),
        ("\x00", "YAML"),
        ("task: {}", "section 'task' is unknown; allowed: tasks, classes, regions, effects, fillers"),
        ("1: {}", "section '1' is unknown"),
        ("tasks: [patrol]", "tasks: must be a mapping"),
        ("tasks: {patrol: detect}", "tasks: patrol: must have the keys description, phrases, heads (and classes)"),
        ("tasks: {patrol: {phrases: [x], heads: []}}", "tasks: patrol"),
        ("tasks: {patrol: {description: d, phrases: [x], heads: [], zone: []}}", "tasks: patrol"),
        ("tasks: {patrol: {description: 3, phrases: [x], heads: []}}", "description must be a text"),
        (TASK % ("patrol", "[]"), "patrol: phrases: must be a list"),
        (TASK % ("[on]", "[]"), "True is no phrase"),
        (TASK % ("['!']", "[]"), "'!' is no phrase"),
        (TASK % ("[x]", "[radar]"), "heads must be a list of detection, segmentation, saliency"),
        (TASK % ("[x]", "[[]]"), "heads must be a list of detection, segmentation, saliency"),
        (TASK % ("[x]", "radar"), "heads must be a list"),
        (TASK % ("[x]", "[detection], classes: person"), "classes: must be a list"),
        (TASK % ("[detect]", "[]"), "'detect' already belongs to detection"),
        ("tasks: {on: {description: d, phrases: [x], heads: []}}", "name True"),
        ("classes: [truck]", "classes: must be a mapping"),
        ("classes: {truck: lorry}", "classes: truck: must be a list"),
        ("classes: {truck: [car]}", "'car' already belongs to car"),
        ("classes: {truck: [detect]}", "'detect' already asks for detection"),
        ("classes: {1: [lorry]}", "name 1"),
        ("regions: [gate]", "regions: must be a mapping"),
        (REGION % "phrases: [x]", "regions: gate: must have phrases, and zone or objects (and inverted)"),
        (REGION % "phrases: [x], objects: [car], zone: [[0, 0], [1, 0], [1, 1]]", "zone or objects"),
        (REGION % "objects: [car]", "gate: phrases: must be a list"),
        (REGION % "phrases: [x], objects: car", "gate: objects: must be a list"),
        (REGION % "phrases: [x], objects: [1]", "1 is no phrase"),
        (REGION % "phrases: [x], objects: [car], inverted: perhaps", "inverted must be true or false"),
        (REGION % "phrases: [x], zone: [[0, 0], [1, 1]]", "three or more corners"),
        (REGION % "phrases: [x], zone: [[0, 0], [1, 0], [1, 2]]", "numbers of 0 to 1"),
        (REGION % "phrases: [x], zone: [[0, 0], [1, 0], [1]]", "three or more corners"),
        (REGION % "phrases: [x], zone: [[0, 0], [1, 0], [1, .nan]]", "numbers of 0 to 1"),
        (REGION % "phrases: [x], zone: all", "three or more corners"),
        (REGION % "phrases: [left half], zone: [[0, 0], [1, 0], [1, 1]]", "already belongs to left"),
        ("effects: [brighter]", "effects: must be a mapping"),
        ("effects: {blur: {more: [blurrier]}}", "effects: blur: must be one of inclination, illumination, contrast"),
        ("effects: {contrast: [punchy]}", "effects: contrast: must be one of"),
        ("effects: {contrast: {most: [punchiest]}}", "with more, less, amount"),
        ("effects: {contrast: {more: punchy}}", "effects: contrast: more: must be a list"),
        ("fillers: {hey: 1}", "fillers: must be a list"),
        ("fillers: [1]", "1 is no phrase"),
    ],
)
def test_malformed_files_are_refused_naming_file_and_entry(written, content, says):
    with pytest.raises(GrammarError, match=r"mine\.yaml: ") as refused:
        load_grammar(written(content))
    assert says in str(refused.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(GrammarError, match=r"missing\.yaml"):
        load_grammar(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(GrammarError, match=r"binary\.yaml"):
        load_grammar(tmp_path / "binary.yaml")


def test_a_file_that_runs_code_or_never_ends_is_refused(written, tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(GrammarError, match="YAML"):
        load_grammar(written(f"tasks: !!python/object/apply:os.mkdir ['{trace}']"))
    assert not trace.exists()
    with pytest.raises(GrammarError):
        load_grammar(written("[" * 5000))


@pytest.fixture(scope="module")
def other_detector():
    return load_interpreter(known_classes={"detection": ("person", "dog", "traffic light", "sports_ball")})


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("find dogs", ("dog",)),
        ("where are the traffic lights?", ("traffic light",)),
        ("detect sports balls", ("sports_ball",)),
        ("detect everything except dogs", ("person", "traffic light", "sports_ball")),
        ("everything but people", ("dog", "traffic light", "sports_ball")),
        ("find the cars", ("car",)),  # the node says that its detector does not know them
    ],
)
def test_the_classes_of_a_detector_are_known_and_what_is_left_is_of_them(other_detector, text, classes):
    read = other_detector.interpret(text)
    assert read.accepted, read.message
    assert read.classes == classes


def test_all_classes_of_a_detector_cannot_be_left_out(other_detector):
    read = other_detector.interpret("detect all but people, dogs, traffic lights and sports balls")
    assert not read.accepted
    assert read.reason == "it leaves no class to look for"


def test_classes_of_a_detector_are_regions(other_detector):
    (effect,) = other_detector.interpret("make the dogs brighter").effects
    assert effect.region.objects == ("dog",)


def test_what_no_detector_knows_is_refused_by_name():
    read = default_interpreter().interpret("find dogs")
    assert not read.accepted
    assert "do not know dog" in read.message
