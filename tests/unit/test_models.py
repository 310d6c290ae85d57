"""Model folders: which are found, and that what is wrong with one is said in one line."""

import pytest
import yaml

from irvf.models import ModelError, available_models, file_digest, load_model

FUSION = {"kind": "fusion", "onnx": "net.onnx", "licence": "Apache-2.0"}
PROMPTED = {**FUSION, "weights": "net.onnx", "text_encoder": "words"}
SEGMENTATION = {"kind": "segmentation", "onnx": "net.onnx", "labels": ["background", "person"], "input_size": [64, 96]}
ENCODER = {"kind": "text_encoder", "onnx": "net.onnx", "tokenizer": "net.onnx", "width": 384}
DETECTOR = {"kind": "detector", "onnx": "net.onnx", "licence": "MIT", "labels": ["person"], "input_size": [64, 96]}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of model folders that is searched first, and a function that fills it."""
    root = tmp_path / "models"
    root.mkdir()
    monkeypatch.setenv("IRVF_MODEL_PATH", str(root))

    def write(name, content, network="net.onnx"):
        folder = root / name
        folder.mkdir()
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (folder / "config.yaml").write_text(text, "utf-8")
        if network:
            (folder / network).write_bytes(b"")
        return folder

    return write


def refusal(name, kind="fusion"):
    with pytest.raises(ModelError) as raised:
        load_model(name, kind)
    assert "\n" not in str(raised.value)
    return str(raised.value)


SHIPPED = {
    "irvf": "fusion",
    "irvf-base": "fusion",
    "realtime": "fusion",
    "detector": "detector",
    "segmentation": "segmentation",
}
SHIPPED |= {"saliency": "saliency", "sentence-encoder": "text_encoder"}


@pytest.mark.parametrize(("name", "kind"), SHIPPED.items())
def test_the_shipped_models_load(name, kind):
    model = load_model(name, kind)
    assert model == load_model(name)
    assert model.onnx.is_file()
    assert model.licence != "unknown"


def test_a_file_that_is_as_it_was_written_is_taken(models):
    folder = models("mine", FUSION)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({**FUSION, "digests": {"net.onnx": file_digest(folder / "net.onnx")}})
    )
    assert load_model("mine").onnx == folder / "net.onnx"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_file_has_its_digest(name):
    content = yaml.safe_load((load_model(name).path / "config.yaml").read_text("utf-8"))
    assert content["onnx"] in content["digests"]
    assert content.get("weights", content["onnx"]) in content["digests"]
    assert content.get("meaning", content["onnx"]) in content["digests"]


@pytest.mark.parametrize(("name", "most"), [(name, 25e6 if name == "sentence-encoder" else 10e6) for name in SHIPPED])
def test_every_shipped_model_has_a_card_and_is_small(name, most):
    folder = load_model(name).path
    card = (folder / "MODEL_CARD.md").read_text("utf-8")
    assert card.startswith(f"# {name}")
    assert "licence of the weights" in card
    assert "data seen" in card
    assert "`irvf " in card  # the command that makes it
    assert sum(file.stat().st_size for file in folder.iterdir()) < most


def test_the_shipped_fusion_names_the_shipped_text_encoder():
    fusion = load_model("irvf", "fusion")
    assert fusion.weights is not None
    assert load_model(fusion.text_encoder, "text_encoder").width > 0
    assert load_model("irvf-base", "fusion").weights is None


def test_the_shipped_text_encoder_tells_meanings():
    assert load_model("sentence-encoder", "text_encoder").meaning.is_file()


def test_a_folder_of_the_model_path_is_found_by_name_and_wins(models):
    folder = models("irvf", FUSION)
    model = load_model("irvf", "fusion")
    assert model.path == folder
    assert (model.name, model.kind, model.licence, model.onnx) == ("irvf", "fusion", "Apache-2.0", folder / "net.onnx")
    assert available_models()["irvf"] == folder
    assert available_models()["detector"].is_dir()


def test_several_folders_are_searched_in_order(models, tmp_path, monkeypatch):
    models("mine", FUSION)
    (tmp_path / "other" / "mine").mkdir(parents=True)
    (tmp_path / "other" / "mine" / "config.yaml").write_text("kind: detector\n")
    monkeypatch.setenv("IRVF_MODEL_PATH", f"{tmp_path / 'absent'}:{tmp_path / 'models'}:{tmp_path / 'other'}")
    assert load_model("mine", "fusion").path == tmp_path / "models" / "mine"


def test_a_path_is_taken_too(models, monkeypatch):
    folder = models("mine", DETECTOR)
    monkeypatch.delenv("IRVF_MODEL_PATH")
    model = load_model(str(folder), "detector")
    assert (model.labels, model.input_size) == (("person",), (64, 96))


def test_a_missing_model_lists_what_there_is(models):
    models("mine", FUSION)
    said = refusal("yours")
    for expected in ("'yours'", "mine", "irvf", "detector", "IRVF_MODEL_PATH"):
        assert expected in said


def test_a_missing_path_is_named(tmp_path):
    assert str(tmp_path / "nothing") in refusal(str(tmp_path / "nothing"))


def test_another_kind_is_refused(models):
    models("mine", DETECTOR)
    assert "of kind 'detector', a fusion is wanted" in refusal("mine")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("kind: [fusion", "cannot read"),
        ("kind: fusion\n\tonnx: x", "cannot read"),
        ("- fusion", "mapping"),
        ("", "mapping"),
        ({"onnx": "net.onnx"}, "kind None"),
        ({"kind": "fusion"}, "onnx must be"),
        ({**FUSION, "onnx": 3}, "onnx must be"),
        ({**FUSION, "onnx": "other.onnx"}, "other.onnx"),
        ({**FUSION, "onnx": "../mine/net.onnx"}, "in that folder itself"),
        ({**FUSION, "onnx": "/etc/passwd"}, "in that folder itself"),
        ({**FUSION, "size_multiple": 0}, "size_multiple"),
        ({**FUSION, "digests": "e3b0"}, "digests must map"),
        ({**FUSION, "digests": {"lost.onnx": "e3b0"}}, "lost.onnx"),
        ({**FUSION, "digests": {"net.onnx": "0000"}}, "net.onnx is not the file that the folder was written with"),
    ],
)
def test_a_malformed_fusion_is_named(models, content, named):
    folder = models("mine", content)
    said = refusal("mine")
    assert named in said
    assert str(folder) in said


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({**PROMPTED, "weights": None}, "belong together"),
        ({**PROMPTED, "text_encoder": None}, "belong together"),
        ({**PROMPTED, "text_encoder": ""}, "belong together"),
        ({**PROMPTED, "text_encoder": 3}, "belong together"),
        ({**PROMPTED, "weights": "absent.safetensors"}, "absent.safetensors"),
        ({**PROMPTED, "weights": ["net.onnx"]}, "weights must be"),
        ({**SEGMENTATION, "labels": ["background"]}, "labels"),
        ({**SEGMENTATION, "labels": ["background", "background"]}, "differ"),
        ({**SEGMENTATION, "input_size": [64, 97]}, "multiples of 32"),
        ({**SEGMENTATION, "kind": "saliency", "input_size": None}, "input_size"),
        ({**ENCODER, "width": 0}, "width"),
        ({**ENCODER, "width": "384"}, "width"),
        ({**ENCODER, "tokenizer": "absent.json"}, "absent.json"),
        ({**ENCODER, "meaning": "absent.safetensors"}, "absent.safetensors"),
        ({**ENCODER, "meaning": True}, "meaning must be"),
        ({key: ENCODER[key] for key in ("kind", "onnx", "width")}, "tokenizer must be"),
        ({"kind": "toaster", "onnx": "net.onnx"}, "'toaster', a fusion or detector or"),
    ],
)
def test_what_is_malformed_is_named_in_every_kind(models, content, named):
    models("mine", content)
    said = refusal("mine", None)
    assert named in said
    assert "mine" in said


def test_each_kind_gives_what_it_needs(models):
    contents = {"prompted": PROMPTED, "plain": FUSION, "words": ENCODER, "classes": SEGMENTATION}
    contents["meant"] = {**ENCODER, "meaning": "net.onnx"}
    for name, content in contents.items():
        models(name, content)
    prompted, plain, words, classes, meant = map(load_model, contents)
    assert (prompted.weights, prompted.text_encoder) == (prompted.path / "net.onnx", "words")
    assert (plain.weights, plain.text_encoder) == (None, "")
    assert (words.tokenizer, words.width, words.meaning) == (words.path / "net.onnx", 384, None)
    assert meant.meaning == meant.path / "net.onnx"
    assert (classes.labels, classes.input_size) == (("background", "person"), (64, 96))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"labels": []}, "labels"),
        ({"labels": "person"}, "labels"),
        ({"labels": [1, 2]}, "labels"),
        ({"input_size": [480]}, "input_size"),
        ({"input_size": [0, 0]}, "multiples of 32"),
        ({"input_size": [100, 96]}, "multiples of 32"),
        ({"input_size": [-32, 96]}, "input_size"),
        ({"input_size": "480x640"}, "input_size"),
        ({"input_size": None}, "input_size"),
    ],
)
def test_a_malformed_detector_is_named(models, changes, named):
    models("mine", {**DETECTOR, **changes})
    assert named in refusal("mine", "detector")


def test_a_folder_that_is_not_text_is_refused(models):
    folder = models("mine", FUSION)
    (folder / "config.yaml").write_bytes(b"\xff\xfe\x00kind")
    assert "config.yaml" in refusal("mine")
