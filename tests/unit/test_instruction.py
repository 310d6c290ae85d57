"""Instructions: what is understood, what is refused, and that no text does harm."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvf.instruction.interpreter import MAX_LENGTH, Interpreter, clean_text
from irvf.instruction.tasks import load_tasks

FULL_WIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "detect") + "\N{IDEOGRAPHIC SPACE}cars"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)


@pytest.fixture(scope="module")
def table():
    return load_tasks()


@pytest.fixture(scope="module")
def interpreter(table):
    return Interpreter(table)


UNDERSTOOD = [
    ("detection", "detection", ()),
    ("SALIENCY", "saliency", ()),
    (" Viewing. ", "viewing", ()),
    ("find the pedestrians", "detection", ("person",)),
    ("detect cars and bicycles", "detection", ("car", "bicycle")),
    ("Where are the cyclists?", "detection", ("bicycle",)),
    ("please look out for children on the road at night", "detection", ("person",)),
    ("draw bounding boxes around all vehicles", "detection", ("car",)),
    ("detect everything", "detection", ()),
    ("pedestrians", "detection", ("person",)),
    ("are there any people?", "detection", ("person",)),
    ("show me the cars", "detection", ("car",)),
    ("segment the scene", "segmentation", ()),
    ("segment the cars", "segmentation", ("car",)),
    ("what stands out?", "saliency", ()),
    ("find the most salient objects", "saliency", ()),
    ("salient object detection", "saliency", ()),
    ("show me a nice picture", "viewing", ()),
    ("give me a clear image for a human viewer", "viewing", ()),
    ("no boxes", "viewing", ()),
    ("do not detect anything", "viewing", ()),
    ("Don't find anything, just the picture", "viewing", ()),
    ("don\N{RIGHT SINGLE QUOTATION MARK}t segment", "viewing", ()),
    ("turn off detection", "viewing", ()),
    ("detection off", "viewing", ()),
    (FULL_WIDTH, "detection", ("car",)),
    ("detect\ncars\t", "detection", ("car",)),
]


@pytest.mark.parametrize(("text", "task", "classes"), UNDERSTOOD)
def test_understood(interpreter, text, task, classes):
    read = interpreter.interpret(text)
    assert read.accepted, read.message
    assert (read.task.name, read.classes, read.confidence) == (task, classes, 1.0)
    assert task in read.message


REFUSED = [
    ("", "empty"),
    ("   \n\t", "empty"),
    ("?!", "empty"),
    ("hello world", "hello, world"),
    ("find dogs", "dog"),
    ("find a parking space", "parking"),
    ("show me", "no task"),
    ("detect and segment the cars", "detection and segmentation"),
    ("a pretty view of the detected cars", "viewing and detection"),
    ("everything except cars", "except"),
    ("detect all but people", "but"),
    ("detect cars instead of people", "instead"),
    ("no pedestrians", "negation"),
    ("don't show the cars", "negation"),
    ("don't view, detect", "negation"),
    ("no boxes, segment", "negation"),
    ("do not segment or detect", "negation"),
    ("do not stop detecting", "negation"),
    ("I cannot find the pedestrians", "negation"),
    ("行人を検出", "行人"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_refused_with_the_reason_and_what_is_known(interpreter, text, why):
    read = interpreter.interpret(text)
    assert not read.accepted
    assert why in read.message
    assert "detection, segmentation, saliency, viewing" in read.message
    assert "person, bicycle, car" in read.message
    assert (read.task, read.classes, read.confidence) == (None, (), 0.0)


def test_partly_understood_says_what_was_not(interpreter):
    read = interpreter.interpret("find pedestrians and dogs")
    assert read.task.name == "detection"
    assert read.classes == ("person",)
    assert read.confidence == pytest.approx(2 / 3)
    assert "not understood: dog" in read.message


@pytest.mark.parametrize(
    ("text", "near"), [("detct pedestrians", "'detect'"), ("pedestrans", "'pedestrian'"), ("saliancy", "'saliency'")]
)
def test_misspelt_words_are_refused_with_the_nearest_known(interpreter, text, near):
    read = interpreter.interpret(text)
    assert not read.accepted
    assert f"did you mean {near}?" in read.message


@pytest.mark.parametrize("negation", ["no", "do not", "don't", "stop", "never", "without", "disable", "i can't"])
def test_a_negation_never_detects(interpreter, table, negation):
    for phrase in table.tasks["detection"].phrases:
        for text in (f"{negation} {phrase}", f"please {negation} {phrase} the cars", f"{phrase} {negation} people"):
            read = interpreter.interpret(text)
            assert not read.accepted or read.task.name == "viewing", text


def test_every_name_phrase_and_class_word_is_understood(interpreter, table):
    for task in table.tasks.values():
        for phrase in (task.name, *task.phrases):
            assert interpreter.interpret(phrase.upper()).task == task, phrase
    for words, name in table.classes.items():
        assert interpreter.interpret("detect the " + " ".join(words)).classes == (name,), words


def test_long_texts_are_refused_and_not_repeated(interpreter):
    begin = time.perf_counter()
    read = interpreter.interpret("detect cars " * 8533)
    assert time.perf_counter() - begin < 0.1
    assert not read.accepted
    assert read.text == ""
    assert "102396 characters" in read.message
    assert len(read.message) < 300
    assert interpreter.interpret("detect cars".ljust(MAX_LENGTH)).accepted
    assert not interpreter.interpret("detect cars".ljust(MAX_LENGTH + 1)).accepted


INTERPRETER = Interpreter(load_tasks())  # hypothesis takes no fixtures


@given(ANY_TEXT)
@settings(max_examples=400, deadline=1000)
def test_no_text_raises_and_no_answer_holds_what_does_not_print(text):
    read = INTERPRETER.interpret(text)
    for said in (read.text, read.message):
        assert printable(said)
    assert read.message
    assert read.accepted == (read.confidence > 0.5)


KNOWN_WORDS = ["no", "not", "detect", "segment", "cars", "view", "the", "boxes", "except", "salient", "dogs", "off"]


@given(st.lists(st.sampled_from(KNOWN_WORDS), max_size=12))
def test_no_order_of_known_words_raises(words):
    read = INTERPRETER.interpret(" ".join(words))
    if read.accepted and {"no", "not", "off"} & set(words):
        assert read.task.name == "viewing"


def printable(text):
    text.encode("utf-8")  # no lone surrogates
    return all(unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029" for character in text)


@given(ANY_TEXT, st.integers(2, 50))
@settings(max_examples=400)
def test_cleaned_texts_fit_one_line_of_a_log(text, limit):
    cleaned = clean_text(text, limit)
    assert len(cleaned) <= limit
    assert printable(cleaned)
    assert cleaned == " ".join(cleaned.split(" ")).strip()


def test_cleaning():
    assert clean_text("a\r\n[ERROR] forged\x1b[31m\x00") == "a [ERROR] forged[31m"
    assert clean_text("\N{RIGHT-TO-LEFT OVERRIDE}sracdetect\N{ZERO WIDTH SPACE}") == "sracdetect"
    assert clean_text("lone \ud800 surrogate") == "lone surrogate"
    assert clean_text("x" * 100_000, 10) == "x" * 9 + "…"
    assert clean_text("détecter", 8) == "détecter"


def test_an_accepted_text_becomes_an_instruction(interpreter):
    instruction = interpreter.interpret("find  the\tpedestrians").instruction(7)
    assert instruction.text == "find the pedestrians"
    assert (instruction.task.name, instruction.classes, instruction.sequence) == ("detection", ("person",), 7)
    with pytest.raises(ValueError, match="not understood"):
        interpreter.interpret("hello").instruction(8)


def test_the_tasks_run_the_heads_of_their_names(table):
    heads = {name: task.heads for name, task in table.tasks.items()}
    assert heads == {
        "detection": ("detection",),
        "segmentation": ("segmentation",),
        "saliency": ("saliency",),
        "viewing": (),
    }


def test_users_add_tasks_classes_and_words(tmp_path):
    path = tmp_path / "tasks.yaml"
    path.write_text(
        """
tasks:
  patrol:
    description: Boxes and eye catchers around the house.
    phrases: [patrol, guard the house, "on"]
    heads: [detection, saliency]
classes:
  person: [burglar]
  truck: [lorry]
fillers: [hey, robot]
"""
    )
    interpreter = Interpreter(load_tasks(path))
    read = interpreter.interpret("Hey robot, guard the house!")
    assert (read.task.name, read.task.heads) == ("patrol", ("detection", "saliency"))
    assert interpreter.interpret("find burglars and lorries").classes == ("person", "truck")
    assert interpreter.interpret("find pedestrians").classes == ("person",)


def test_a_users_task_replaces_one_of_the_same_name(tmp_path):
    path = tmp_path / "tasks.yaml"
    path.write_text("tasks: {viewing: {description: Look., phrases: [gaze], heads: [saliency]}}")
    table = load_tasks(path)
    assert table.tasks["viewing"].heads == ("saliency",)
    assert Interpreter(table).interpret("gaze").task.name == "viewing"
    assert not Interpreter(table).interpret("show me a nice picture").accepted


TASK = "tasks: {patrol: {description: d, phrases: %s, heads: %s}}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("- detection", "sections tasks, classes, fillers"),
        ("tasks: [unclosed", "YAML"),
        ("task: {}", "section 'task' is unknown"),
        ("tasks: [patrol]", "tasks: must be a mapping"),
        ("tasks: {patrol: detect}", "tasks: patrol: must have exactly the keys description, phrases, heads"),
        ("tasks: {patrol: {phrases: [x], heads: []}}", "tasks: patrol"),
        ("tasks: {patrol: {description: 3, phrases: [x], heads: []}}", "description must be a text"),
        (TASK % ("patrol", "[]"), "patrol: phrases: must be a list"),
        (TASK % ("[on]", "[]"), "True is no phrase"),
        (TASK % ("['!']", "[]"), "'!' is no phrase"),
        (TASK % ("[x]", "[radar]"), "heads must be a list of detection, segmentation, saliency"),
        (TASK % ("[detect]", "[]"), "'detect' already belongs to detection"),
        ("tasks: {on: {description: d, phrases: [x], heads: []}}", "name True"),
        ("classes: [truck]", "classes: must be a mapping"),
        ("classes: {truck: lorry}", "classes: truck: must be a list"),
        ("classes: {truck: [car]}", "'car' already belongs to car"),
        ("classes: {truck: [find]}", "'find' already asks for detection"),
        ("fillers: {hey: 1}", "fillers: must be a list"),
        ("fillers: [1]", "1 is no phrase"),
        ("\x00", "YAML"),
    ],
)
def test_malformed_files_are_refused_naming_file_and_entry(tmp_path, content, says):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.yaml: ") as refused:
        load_tasks(path)
    assert says in str(refused.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.yaml"):
        load_tasks(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"binary\.yaml"):
        load_tasks(tmp_path / "binary.yaml")
