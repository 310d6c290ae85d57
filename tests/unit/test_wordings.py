"""The wordings: what is shipped is what the training needs, and a file of one's own is checked."""

import re

import pytest
import yaml

from irvf.instruction.grammar import load_grammar
from irvf.instruction.interpreter import MAX_LENGTH
from irvf.training.wordings import load_wordings


def test_every_task_of_the_node_has_wordings():
    wordings = load_wordings()
    assert set(wordings) == set(load_grammar().tasks)
    assert all(len(each.training) >= 30 and len(each.held_back) == 12 for each in wordings.values())


def test_what_is_held_back_differs_in_words():
    """No training text of the task shares four fifths of the words with it."""
    for each in load_wordings().values():
        known = {frozenset(re.findall(r"\w+", text.lower())) for text in each.training}
        for text in each.held_back:
            words = frozenset(re.findall(r"\w+", text.lower()))
            assert all(len(words & other) < 0.8 * len(words | other) for other in known), text


def test_an_instruction_could_be_any_of_them():
    texts = [text for each in load_wordings().values() for text in (*each.training, *each.held_back)]
    assert max(map(len, texts)) <= MAX_LENGTH
    assert all(text == " ".join(text.split()) for text in texts)


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "own.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
        return path

    return write


def test_a_file_of_ones_own(written):
    path = written({"counting": {"training": ["count", "wie viele?"], "held_back": ["how many?"]}})
    (task,) = load_wordings(path).items()
    assert (task[0], task[1].training, task[1].held_back) == ("counting", ("count", "wie viele?"), ("how many?",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a list", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: [", "is not YAML"),
        ({"a": ["x"]}, "a: must have exactly the keys"),
        ({"a": {"training": ["x"]}}, "a: must have exactly the keys"),
        ({"a": {"training": ["x"], "held_back": []}}, "a: held_back must be a list of texts, at least one"),
        ({"a": {"training": "x", "held_back": ["y"]}}, "a: training must be a list of texts"),
        ({"a": {"training": ["x", True], "held_back": ["y"]}}, "a: training: True is no text"),
        ({"a": {"training": [" "], "held_back": ["y"]}}, "a: training: ' ' is no text"),
        ({"a": {"training": ["x", "x"], "held_back": ["y"]}}, "'x' has 2"),
        ({"a": {"training": ["find cars"], "held_back": ["Find  cars"]}}, "'find cars' has 2"),
        (
            {"a": {"training": ["x"], "held_back": ["y"]}, "b": {"training": ["z"], "held_back": ["X"]}},
            "'x' has 2",
        ),
    ],
)
def test_another_file_is_refused(written, content, said):
    path = written(content)
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        load_wordings(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        load_wordings(tmp_path / "nowhere.yaml")
