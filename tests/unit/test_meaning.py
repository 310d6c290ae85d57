"""The meaning of sentences: what the shipped weights tell, and that training finds them again."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from irvf.cli.__main__ import main
from irvf.instruction.encoder import load_vocabulary
from irvf.instruction.grammar import load_grammar
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.interpreters import ENCODER, load_encoder, load_interpreter
from irvf.instruction.meaning import FEATURES, LABELS, OFF_TOPIC, Meaning, features_of, topic_of
from irvf.instruction.words import words_of
from irvf.models import ModelError, load_model
from irvf.training.meaning import learn, load_examples, save

MODEL = load_model(ENCODER)
SHARE = 4
"""Every fourth sentence of the examples is learnt from here."""


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(ENCODER)


@pytest.fixture(scope="module")
def shipped(encoder):
    return Meaning(encoder, MODEL.meaning)


@pytest.fixture(scope="module")
def interpreter():
    return Interpreter(load_grammar(), is_word=load_vocabulary(MODEL.tokenizer))


@pytest.fixture(scope="module")
def examples():
    return {label: texts[::SHARE] for label, texts in load_examples().items()}


@pytest.fixture(scope="module")
def learnt(examples, encoder, interpreter):
    return learn(examples, encoder, interpreter)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("spot anyone who is crossing the street", "detection"),
        ("label each pixel with what it belongs to", "segmentation"),
        ("where would a person look first?", "saliency"),
        ("I only want to see the picture", "viewing"),
        ("could it be a little brighter?", "effect"),
        ("forget all the changes", "reset"),
    ],
)
def test_the_topic_of_a_sentence(shipped, text, label):
    topic = shipped.topic(text)
    assert topic.best == label
    assert topic.image > 0
    assert topic.rank(label) == 0


@pytest.mark.parametrize("text", ["what is the capital of France?", "order me a pizza", "tell me a joke"])
def test_a_sentence_about_something_else(shipped, text):
    assert shipped.topic(text).image < 0


@given(st.lists(st.floats(-200, 200, width=32), min_size=len(LABELS), max_size=len(LABELS)))
def test_topics_are_probabilities_and_odds_are_bounded(scores):
    topic = topic_of(np.array(scores, np.float32))
    assert sum(map(np.exp, topic.log_probabilities.values())) == pytest.approx(1, abs=1e-4)
    assert -6 <= topic.image <= 6
    assert topic.best != OFF_TOPIC
    assert all(-6 <= topic.rank(label) <= 6 for label in (*LABELS, "patrol"))
    assert topic.rank("patrol") == 0  # a task of the user's own, which no sentence speaks against


def test_a_reading_that_leaves_nothing_unknown_is_believed_more(shipped, interpreter):
    beliefs = []
    for text in ("find the cars", "find the frobnicated quux cars"):
        features = features_of(interpreter.read(words_of(text)), "detection", shipped.topic(text), by_meaning=False)
        assert features.shape == (len(FEATURES),)
        beliefs.append(shipped.belief(features))
    assert beliefs[0] > beliefs[1]
    assert all(0 <= belief <= 1 for belief in beliefs)


def test_little_is_enough_to_learn_what_the_shipped_weights_tell(learnt, shipped, encoder, interpreter, tmp_path):
    save(learnt, tmp_path / "meaning.safetensors")
    again = Meaning(encoder, tmp_path / "meaning.safetensors")
    unseen = [text for texts in load_examples().values() for text in texts[1 :: 6 * SHARE]]
    assert len(unseen) > 100
    topics = [(again.topic(text), shipped.topic(text)) for text in unseen]
    assert np.mean([(first.image > 0) == (second.image > 0) for first, second in topics]) > 0.88
    assert np.mean([first.best == second.best for first, second in topics if second.image > 0]) > 0.8
    interpreters = (Interpreter(load_grammar(), meaning) for meaning in (again, shipped))
    reads = list(zip(*([each.interpret(text) for text in unseen] for each in interpreters), strict=True))
    assert np.mean([first.accepted == second.accepted for first, second in reads]) > 0.8
    both = [(first.label, second.label) for first, second in reads if first.accepted and second.accepted]
    assert np.mean([first == second for first, second in both]) > 0.97


def test_how_well_it_does_is_measured_on_what_it_has_not_seen(learnt, examples):
    assert 0.7 < learnt.topics_right < 1
    assert learnt.understood > 0.75
    assert learnt.wrong < 0.1
    assert learnt.off_topic_followed < 0.1
    assert set(learnt.tensors) == {"topic.weight", "topic.bias", "belief.weight", "belief.bias"}
    assert sum(map(len, examples.values())) < 900


def test_learning_again_gives_the_same(examples, encoder, interpreter):
    few = {label: texts[:8] for label, texts in examples.items()}
    first, second = (learn(few, encoder, interpreter) for _ in range(2))
    for name, tensor in first.tensors.items():
        np.testing.assert_allclose(second.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_every_label_has_examples_and_none_has_two_labels():
    examples = load_examples()
    assert set(examples) == set(LABELS)
    assert all(len(texts) > 100 for texts in examples.values())
    labels: dict[str, set[str]] = {}
    for label, texts in examples.items():
        for text in texts:
            labels.setdefault(" ".join(text.casefold().split()), set()).add(label)
    assert not {text: each for text, each in labels.items() if len(each) > 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- find", "must be a mapping of detection, segmentation"),
        ({"detection": ["find"]}, "must be a mapping of detection, segmentation"),
        ({**{label: ["x"] for label in LABELS}, "cooking": ["y"]}, "must be a mapping"),
        ({**{label: ["x"] for label in LABELS}, "reset": "undo"}, "reset must be a list of texts"),
        ({**{label: ["x"] for label in LABELS}, "reset": [" "]}, "reset must be a list of texts"),
        ({**{label: ["x"] for label in LABELS}, "reset": [1]}, "reset must be a list of texts"),
        ("a: [", "is not YAML"),
    ],
)
def test_examples_of_another_form_are_refused(tmp_path, content, said):
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"mine\.yaml") as refused:
        load_examples(path)
    assert said in str(refused.value)


def write_weights(path, **changes):
    shapes = {"topic.weight": (len(LABELS), 384), "topic.bias": (len(LABELS),), "belief.weight": (len(FEATURES),)}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in {**shapes, "belief.bias": (1,)}.items()}
    tensors |= {name: np.zeros(shape, np.float32) for name, shape in changes.items()}
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("name", ["topic.weight", "belief.weight"])
def test_weights_of_another_encoder_or_version_are_refused(encoder, tmp_path, name):
    assert Meaning(encoder, write_weights(tmp_path / "right.safetensors")).topic("cars").image > 0
    path = write_weights(tmp_path / "other.safetensors", **{name: (3, 7)})
    with pytest.raises(ModelError, match=r"other\.safetensors was made for another text encoder or version"):
        Meaning(encoder, path)


def test_files_that_are_no_weights_are_refused(encoder, tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    save_file({"other": np.zeros(1, np.float32)}, tmp_path / "lacking.safetensors")
    for name in ("text", "lacking", "missing"):
        with pytest.raises(ModelError, match=rf"{name}\.safetensors cannot be read"):
            Meaning(encoder, tmp_path / f"{name}.safetensors")


@pytest.fixture
def few_examples(examples, tmp_path):
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump({label: list(texts[:8]) for label, texts in examples.items()}))
    return path


def test_the_command_writes_weights_and_says_how_well_they_do(few_examples, tmp_path, capsys, encoder):
    output = tmp_path / "run"
    assert main(["train", "meaning", f"--examples={few_examples}", f"--output={output}"]) == 0
    said = capsys.readouterr().out
    assert "topic right" in said
    assert str(output / "meaning.safetensors") in said
    assert Meaning(encoder, output / "meaning.safetensors").topic("find the cars").image > 0
    assert load_file(output / "meaning.safetensors")["topic.weight"].dtype == np.float32


def test_the_command_adds_the_meaning_to_a_model_folder(few_examples, tmp_path, monkeypatch):
    shipped = MODEL.path
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("encoder.onnx", "tokenizer.json"):
        (folder / name).symlink_to(shipped / name)
    content = yaml.safe_load((shipped / "config.yaml").read_text())
    del content["meaning"], content["digests"]
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ModelError, match="names no meaning"):
        load_interpreter(encoder=str(folder))
    assert main(["train", "meaning", f"--encoder={folder}", f"--examples={few_examples}"]) == 0
    assert load_interpreter(encoder=str(folder)).interpret("find the cars").classes == ("car",)
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written["meaning"] == "meaning.safetensors"
    assert set(written["digests"]) == {"encoder.onnx", "tokenizer.json", "meaning.safetensors"}
