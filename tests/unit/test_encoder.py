"""The shipped sentence encoder: published similarities, any text, any thread, and wordings that nobody trained on."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from irvf.engines.factory import create_engine
from irvf.instruction.encoder import MAX_TOKENS, SentenceEncoder
from irvf.models import ModelError
from irvf.training.wordings import load_wordings

FOLDER = Path(__file__).parents[2] / "models" / "sentence-encoder"
TOKENIZER = FOLDER / "tokenizer.json"
WIDTH = 384


@pytest.fixture(scope="module")
def engine():
    return create_engine("onnxruntime", FOLDER / "encoder.onnx", threads=1)


@pytest.fixture(scope="module")
def encoder(engine):
    return SentenceEncoder(engine, TOKENIZER, WIDTH)


def test_the_model_folder_says_what_it_is():
    content = yaml.safe_load((FOLDER / "config.yaml").read_text("utf-8"))
    assert set(content.pop("digests")) == {"encoder.onnx", "tokenizer.json", "meaning.safetensors"}
    assert content == {
        "kind": "text_encoder",
        "onnx": "encoder.onnx",
        "tokenizer": "tokenizer.json",
        "meaning": "meaning.safetensors",
        "licence": "Apache-2.0",
        "width": WIDTH,
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 25e6


def test_it_is_the_model_that_its_card_names(encoder):
    """The similarities that the documentation of Sentence Transformers prints for all-MiniLM-L6-v2."""
    texts = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    embeddings = np.stack([encoder(text) for text in texts])
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(embeddings @ embeddings.T, published, atol=0.01)  # of 8-bit weights


@pytest.mark.parametrize(
    "text", ["", " ", "detect", "finde die Fußgänger 行人 🚗", "\x00\u202e", "car " * 5_000, "x" * 10_000]
)
def test_any_text_has_an_embedding_of_unit_length(encoder, text):
    embedding = encoder(text)
    assert (embedding.shape, embedding.dtype) == ((WIDTH,), np.float32)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_what_comes_after_the_longest_text_is_not_read(encoder):
    begin = "find the cars " * MAX_TOKENS
    np.testing.assert_array_equal(encoder(begin + "and make it pretty"), encoder(begin))
    words = "find the cars " * 30  # 90 tokens and two of the tokenizer's own
    assert np.abs(encoder(words + "and make it pretty") - encoder(words)).max() > 1e-3


def test_two_threads_get_what_one_gets(encoder):
    texts = [text for each in load_wordings().values() for text in each.held_back]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(encoder, texts * 2))
    np.testing.assert_allclose(together, [encoder(text) for text in texts * 2], atol=1e-6)


def test_held_back_wordings_are_nearest_to_their_own_task(encoder):
    wordings = load_wordings()
    centroids = {task: np.mean([encoder(text) for text in each.training], axis=0) for task, each in wordings.items()}
    centroids = {task: mean / np.linalg.norm(mean) for task, mean in centroids.items()}
    held_back = [(text, task) for task, each in wordings.items() for text in each.held_back]
    wrong = [
        (text, task)
        for text, task in held_back
        if max(centroids, key=lambda name: encoder(text) @ centroids[name]) != task
    ]
    assert len(wrong) <= 0.1 * len(held_back), wrong


def test_a_tokenizer_that_pads_and_does_not_cut_is_put_right(engine, encoder, tmp_path):
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "other.json"))
    other = SentenceEncoder(engine, tmp_path / "other.json", WIDTH)
    for text in ("detect people", "car " * 5_000):
        np.testing.assert_allclose(other(text), encoder(text), atol=1e-6)


def test_a_tokenizer_without_tokens_of_its_own_refuses_the_empty_text(engine, tmp_path):
    bare = Tokenizer(Tokenizer.from_file(str(TOKENIZER)).model)  # without normaliser and template
    bare.save(str(tmp_path / "bare.json"))
    with pytest.raises(ValueError, match="the text '' has no tokens"):
        SentenceEncoder(engine, tmp_path / "bare.json", WIDTH)("")


def test_another_width_is_refused(engine):
    with pytest.raises(ModelError, match=r"returns \[1, 384\], its width is said to be 768"):
        SentenceEncoder(engine, TOKENIZER, 768)


@pytest.mark.parametrize("content", [None, "no json", "{}"])
def test_another_tokenizer_is_refused(engine, tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        SentenceEncoder(engine, tmp_path / "tokenizer.json", WIDTH)


def test_another_network_is_refused(tmp_path):
    image, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("image", "found"))
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["found"])], "other", [image], [found])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="takes image and returns found"):
        SentenceEncoder(create_engine("onnxruntime", tmp_path / "other.onnx"), TOKENIZER, WIDTH)


def test_the_graph_names_no_file_of_the_machine_that_made_it():
    content = (FOLDER / "encoder.onnx").read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content
    assert not onnx.load_from_string(content).metadata_props


def test_it_runs_without_torch_and_transformers():
    code = f"""
import sys
from pathlib import Path
from irvf.engines.factory import create_engine
from irvf.instruction.encoder import SentenceEncoder
from irvf.instruction.prompt import Prompter
folder = Path({str(FOLDER)!r})
SentenceEncoder(create_engine("onnxruntime", folder / "encoder.onnx"), folder / "tokenizer.json", {WIDTH})("detect")
print(sorted({{"torch", "transformers", "onnx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"
