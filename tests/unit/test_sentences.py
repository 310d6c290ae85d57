"""Sentences that nobody tuned by: how many are understood, refused, or taken for another task.

Whoever mends the interpreter must not look at what fails of ``measured.yaml``: this test says totals only.
"""

import time
from pathlib import Path

import pytest
import yaml

from irvf.evaluation.sentences import OFF_TOPIC, Sentence, judge, load_sentences, measure, merged
from irvf.instruction.grammar import load_grammar
from irvf.instruction.instruction import Effect, Region
from irvf.instruction.interpreter import Interpretation
from irvf.instruction.interpreters import default_interpreter
from irvf.instruction.tasks import Task
from irvf.instruction.words import MARKS, words_of
from irvf.training import meaning
from irvf.training.wordings import load_wordings

FOLDER = Path(__file__).parents[1] / "sentences"
LANGUAGES = ("en", "de", "es", "fr", "zh")
GRAMMAR = load_grammar()
TERMS = {"no boxes", "salient object detection"}
"""Sentences of a few words that are samples or wordings, too: they can hardly be said otherwise."""


@pytest.fixture(scope="module")
def measured():
    return load_sentences(FOLDER / "measured.yaml")


@pytest.fixture(scope="module")
def tallies(measured):
    return measure(measured, default_interpreter(), GRAMMAR.classes)


def spelt(text):
    return " ".join(text.casefold().split())


def compared(text):
    return tuple(word for word in words_of(text) if word not in MARKS)


def test_english_is_understood_as_far_as_the_issue_wants(tallies):
    about, off = (merged(tallies, ["en"], off_topic=off_topic) for off_topic in (False, True))
    assert about.counts["right"] >= 0.95 * about.total
    assert off.counts["right"] >= 0.95 * off.total
    assert about.counts["wrong"] + off.counts["wrong"] <= 0.02 * (about.total + off.total)


def test_classes_effects_and_regions_are_right_in_most(tallies):
    about = merged(tallies, LANGUAGES, off_topic=False)
    assert about.counts["exact"] >= 0.85 * about.total


def test_other_languages_are_rarely_taken_for_another_task(tallies):
    about, off = (merged(tallies, LANGUAGES[1:], off_topic=off_topic) for off_topic in (False, True))
    assert about.counts["wrong"] + off.counts["wrong"] <= 0.05 * (about.total + off.total)
    assert about.counts["right"] >= 0.85 * about.total


def test_there_are_enough_of_every_kind(measured):
    assert len(measured) >= 300
    english = [sentence for sentence in measured if sentence.language == "en"]
    assert sum(sentence.category not in OFF_TOPIC for sentence in english) >= 150
    assert sum(sentence.category in OFF_TOPIC for sentence in english) >= 40
    assert {sentence.language for sentence in measured} == set(LANGUAGES)
    wanted = {"task", "classes", "negation", "mixed", "misspelt", "effects", "regions", "reset", *OFF_TOPIC}
    assert {sentence.category for sentence in english} == wanted


@pytest.mark.parametrize("name", ["measured", "tuning"])
def test_sentences_name_what_there_is(name):
    tasks = {*GRAMMAR.tasks, "keep", "refused"}
    for sentence in load_sentences(FOLDER / f"{name}.yaml"):
        assert sentence.task in tasks, sentence
        assert sentence.classes <= set(GRAMMAR.classes), sentence
        assert {region.removeprefix("not ") for _, _, region in sentence.effects} <= {"", *GRAMMAR.regions}, sentence


def test_nothing_that_is_measured_was_tuned_by_or_learnt(measured):
    texts = {spelt(sentence.text) for sentence in measured}
    assert len(texts) == len(measured)
    tuning = [sentence.text for sentence in load_sentences(FOLDER / "tuning.yaml")]
    examples = yaml.safe_load(Path(meaning.__file__).with_name("examples.yaml").read_text("utf-8"))
    assert texts.isdisjoint(map(spelt, tuning))
    assert texts.isdisjoint(spelt(text) for each in examples.values() for text in each)
    wordings = [text for each in load_wordings().values() for text in (*each.training, *each.held_back)]
    samples = [text for each in GRAMMAR.samples.values() for text in each]
    assert texts & {spelt(text) for text in (*wordings, *samples)} <= TERMS


def test_phrases_of_the_grammar_are_no_copies_of_what_is_measured(measured):
    words = {compared(sentence.text) for sentence in measured}
    phrases = {phrase for language in GRAMMAR.languages for phrase in language.phrases}
    same = words & phrases
    assert max(map(len, same)) <= 4  # "sharper" and "image only" are phrases as well as sentences
    assert len(same) <= 0.04 * len(measured)


def test_a_new_sentence_is_read_within_milliseconds(measured):
    interpreter, taken = default_interpreter(), []
    for sentence in measured[:100]:
        started = time.perf_counter()
        interpreter.interpret(f"{sentence.text} {len(taken)}")  # no embedding of it is kept
        taken.append(time.perf_counter() - started)
    assert sorted(taken)[50] < 0.015  # 5 ms on two cores of an EPYC


PEOPLE = Region("person", objects=("person",))
DETECTION = Task("detection", "", ("detection",))
SALIENCY = Task("saliency", "", ("saliency",))
KNOWN = ("person", "bicycle", "car")


@pytest.mark.parametrize(
    ("meant", "read", "outcome"),
    [
        ({"task": "detection"}, {"task": DETECTION}, ("right", True)),
        ({"task": "detection", "classes": {"car"}}, {"task": DETECTION, "classes": ("car",)}, ("right", True)),
        ({"task": "detection", "classes": {"car"}}, {"task": DETECTION}, ("right", False)),
        ({"task": "detection"}, {"task": DETECTION, "classes": KNOWN}, ("right", True)),
        ({"task": "saliency", "classes": {"car"}}, {"task": SALIENCY}, ("right", True)),
        ({"task": "detection"}, {"task": SALIENCY}, ("wrong", False)),
        ({"task": "detection"}, {"reset": True}, ("wrong", False)),
        ({"task": "keep", "reset": True}, {"reset": True}, ("right", True)),
        ({"task": "keep"}, {"reset": True}, ("right", False)),
        ({"task": "refused"}, {"accepted": False}, ("right", True)),
        ({"task": "refused"}, {"task": DETECTION}, ("wrong", False)),
        ({"task": "detection"}, {"accepted": False}, ("refused", False)),
        ({"task": "detection", "or_refused": True}, {"accepted": False}, ("right", True)),
        (
            {"task": "keep", "effects": {("illumination", 1, "not person")}},
            {"effects": (Effect("illumination", 0.25, PEOPLE.complement()),)},
            ("right", True),
        ),
        (
            {"task": "keep", "effects": {("illumination", 1, "")}},
            {"effects": (Effect("illumination", 0.5, PEOPLE),)},
            ("right", False),
        ),
        (
            {"task": "keep", "effects": {("illumination", 1, "")}},
            {"effects": (Effect("illumination", -0.5),)},
            ("right", False),
        ),
    ],
)
def test_judgement(meant, read, outcome):
    meant = {name: frozenset(value) if isinstance(value, set) else value for name, value in meant.items()}
    sentence = Sentence("text", "en", "task", **meant)
    assert judge(sentence, Interpretation("text", **read), KNOWN) == outcome


def test_tallies_add_up():
    sentences = [
        Sentence("find the cars", "en", "task", "detection", frozenset({"car"})),
        Sentence("find the cars", "en", "task", "detection"),
        Sentence("find the cars", "en", "task", "saliency"),
        Sentence("bake a cake", "en", "task", "detection"),
        Sentence("bake a cake", "en", "off_topic", "refused"),
        Sentence("find the cars", "de", "task", "saliency"),
    ]
    tallies = measure(sentences, default_interpreter(), GRAMMAR.classes)
    about, off = (merged(tallies, ["en"], off_topic=off_topic) for off_topic in (False, True))
    assert dict(about.counts) == {"right": 2, "wrong": 1, "refused": 1, "exact": 1}
    assert (about.total, off.total, off.counts["right"]) == (4, 1, 1)
    assert [sentence.task for sentence, _ in about.failures] == ["detection", "saliency", "detection"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text: x", "must be a list"),
        ("- just a text", "must have text, category and task"),
        ("- {text: x, category: task}", "must have text, category and task"),
        ("- {text: x, category: task, task: detection, note: y}", "and of category, classes"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, content, said):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.yaml") as refused:
        load_sentences(path)
    assert said in str(refused.value)


def test_the_form_of_the_file_becomes_what_is_compared(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "- {text: less noise and cooler people, category: effects, task: keep, language: de, effects: "
        "[{kind: noise, direction: down}, {kind: inclination, direction: visible, region: not person}]}\n"
    )
    (sentence,) = load_sentences(path)
    assert sentence.language == "de"
    assert sentence.effects == {("denoising", 1, ""), ("inclination", -1, "not person")}
