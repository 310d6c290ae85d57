"""`irvf evaluate` on generated pairs, with small networks whose answers can be worked out."""

import csv

import cv2
import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper, save
from safetensors.numpy import save_file

pytest.importorskip("pycocotools", reason="irvf evaluate needs pycocotools")
pytest.importorskip("matplotlib", reason="irvf evaluate needs matplotlib")

from irvf.cli.__main__ import main
from irvf.engines.factory import create_engine
from irvf.evaluation.average_precision import Truth
from irvf.evaluation.bootstrap import Statistic, draw_resamples
from irvf.evaluation.comparison import RowResult, SetResult, compare_rows, spread
from irvf.evaluation.figures import Figure, mean_ranks, set_figures
from irvf.evaluation.fusion_quality import METRICS, RANKED
from irvf.evaluation.rows import load_networks, make_rows, show_rgb, show_thermal
from irvf.evaluation.truth import SetTruth, check_pairs, find_truth, load_truth
from irvf.frames import Box, Detection
from irvf.instruction.encoder import SentenceEncoder
from irvf.models import load_model
from irvf.training.data import find_pairs
from irvf.training.pseudo_labels import IGNORED

SIZE = (96, 128)
WARM = (64, 32, 96, 72)
"""The warm block of the scenes: x_min, y_min, x_max, y_max."""
LABELS = ("person", "bicycle", "car")
SOURCES = ["thermal", "rgb", "average"]


def write_model(folder, config, nodes, inputs, output, constants=()):
    """Write a model folder; inputs and output are names with shapes."""
    folder.mkdir(parents=True)
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in [*inputs, output]]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "net", made[:-1], made[-1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(model, folder / "net.onnx")
    (folder / "config.yaml").write_text(yaml.safe_dump({"onnx": "net.onnx", "licence": "MIT", **config}))


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models that shadow the shipped ones.

    The base network is the mean of both planes. The detector is as sure of a person in the warm block as the image is
    bright, the segmentation takes what is brighter than 0.6 for a person, the saliency map is the brightness.
    """
    root = tmp_path / "models"
    node, planes = helper.make_node, [("thermal", [1, 1, "H", "W"]), ("luma", [1, 1, "H", "W"])]
    write_model(
        root / "irvf-base",
        {"kind": "fusion"},
        [node("Mean", ["thermal", "luma"], ["fused"])],
        planes,
        ("fused", [1, 1, "H", "W"]),
    )
    image, brightness = [("image", [1, 3, 96, 128])], node("ReduceMean", ["image", "axes"], ["grey"], keepdims=1)
    box = np.array([(WARM[0] + WARM[2]) / 2, (WARM[1] + WARM[3]) / 2, WARM[2] - WARM[0], WARM[3] - WARM[1]], np.float32)
    write_model(
        root / "detector",
        {"kind": "detector", "labels": list(LABELS), "input_size": [96, 128]},
        [
            node("ReduceMean", ["image", "axes"], ["score"], keepdims=0),
            node("Reshape", ["score", "one"], ["cell"]),
            node("Concat", ["box", "cell", "others"], ["predictions"], axis=1),
        ],
        image,
        ("predictions", [1, 7, 1]),
        [
            ("axes", np.array([0, 1, 2, 3])),
            ("one", np.array([1, 1, 1])),
            ("box", box.reshape(1, 4, 1)),
            ("others", np.zeros((1, 2, 1), np.float32)),
        ],
    )
    write_model(
        root / "segmentation",
        {"kind": "segmentation", "labels": ["background", *LABELS], "input_size": [96, 128]},
        [
            brightness,
            node("AveragePool", ["grey"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Concat", ["limit", "small", "never", "never"], ["logits"], axis=1),
        ],
        image,
        ("logits", [1, 4, 48, 64]),
        [
            ("axes", np.array([1])),
            ("limit", np.full((1, 1, 48, 64), 0.6, np.float32)),
            ("never", np.full((1, 1, 48, 64), -1, np.float32)),
        ],
    )
    write_model(
        root / "saliency",
        {"kind": "saliency", "input_size": [96, 128]},
        [brightness, node("AveragePool", ["grey"], ["saliency"], kernel_shape=[2, 2], strides=[2, 2])],
        image,
        ("saliency", [1, 1, 48, 64]),
        [("axes", np.array([1]))],
    )
    monkeypatch.setenv("IRVF_MODEL_PATH", str(root))
    return root


@pytest.fixture
def told(models):
    """A fusion that shows the thermal image for "detection" and the RGB image for "viewing", in what the text says."""
    config = load_model("sentence-encoder", "text_encoder")
    encode = SentenceEncoder(create_engine("auto", config.onnx, 1), config.tokenizer, config.width)
    wanted, other = encode("detection"), encode("viewing")
    direction = (wanted - other) / (1 - wanted @ other)  # 1 for the first text and -1 for the second
    node, planes = helper.make_node, [("thermal", [1, 1, "H", "W"]), ("luma", [1, 1, "H", "W"]), ("prompt", [2, 9])]
    write_model(
        models / "told",
        {"kind": "fusion", "weights": "fusion.safetensors", "text_encoder": "sentence-encoder"},
        [
            node("ReduceMean", ["prompt"], ["told"], keepdims=0),
            node("Clip", ["told", "zero", "one"], ["share"]),
            node("Sub", ["thermal", "luma"], ["difference"]),
            node("Mul", ["difference", "share"], ["added"]),
            node("Add", ["luma", "added"], ["fused"]),
        ],
        planes,
        ("fused", [1, 1, "H", "W"]),
        [("zero", np.float32(0)), ("one", np.float32(1))],
    )
    one = np.ones((1, 1), np.float32)
    layers = {"adapter.0": direction[None], "adapter.1": one}
    for branch in ("thermal", "luma"):
        layers[f"{branch}.0.predictor.0"] = np.array([[0, 0, 1]], np.float32)
        layers[f"{branch}.0.predictor.1"] = np.ones((9, 1), np.float32)
    tensors = {f"regulation.{name}.weight": weight.astype(np.float16) for name, weight in layers.items()}
    tensors |= {f"regulation.{name}.bias": np.zeros(len(weight), np.float16) for name, weight in layers.items()}
    save_file(tensors, models / "told" / "fusion.safetensors")


@pytest.fixture
def data(pair_folder):
    """Two sets: a street with a labelled person in the warm block, and a harbour without labels."""
    root = pair_folder(("a", "b", "c"), "street", SIZE)
    pair_folder(("x", "y"), "harbour", SIZE)
    write_boxes(root / "street", ("a", "b", "c"))
    return root


def write_boxes(folder, names, line=None):
    x0, y0, x1, y1 = WARM
    boxes = folder / "boxes_fusion"
    boxes.mkdir(exist_ok=True)
    known = f"0 {(x0 + x1) / 2 / 128} {(y0 + y1) / 2 / 96} {(x1 - x0) / 128} {(y1 - y0) / 96}\n"
    for name in names:
        (boxes / f"{name}.txt").write_text(line or known)


def evaluate(data, output, *options):
    arguments = ["evaluate", "--data", data, "--output", output, "--threads", 1, "--resamples", 50, *options]
    return main([str(argument) for argument in arguments])


def luma(rgb):
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(int)


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_source_alone_is_shown_as_it_is(scene):
    thermal, rgb = scene()
    np.testing.assert_array_equal(show_rgb(thermal, rgb), rgb)
    grey = show_thermal(thermal, rgb)
    assert grey.shape == rgb.shape
    assert (grey == thermal[..., None]).all()


def test_a_model_makes_a_row_under_each_instruction(told, scene):
    thermal, rgb = scene(*SIZE)
    rows = make_rows(["told", "max", "told"], ["viewing", "detection", "viewing"], threads=1)
    assert [row.name for row in rows] == ["told: viewing", "told: detection", "max"]
    viewed, detected = (luma(row.fuse(thermal, rgb)) for row in rows[:2])
    assert np.abs(viewed - luma(rgb)).mean() < 1.5
    assert np.abs(detected - thermal).mean() < 1.5  # chroma that does not fit moves some levels


def test_fusions_run_at_the_scale_that_is_asked_for_and_cameras_do_not(scene):
    thermal, rgb = scene(*SIZE)
    thermal[::2] = 255 - thermal[::2]  # detail that a smaller image loses
    full, half = (make_rows(["max", "rgb"], [], threads=1, scale=scale) for scale in (1.0, 0.5))
    changed = [
        np.abs(luma(one.fuse(thermal, rgb)) - luma(other.fuse(thermal, rgb))).mean()
        for one, other in zip(full, half, strict=True)
    ]
    assert changed[0] > 1
    assert changed[1] == 0


def test_an_instruction_that_is_not_understood_is_refused(told, data, tmp_path, capsys):
    said = refused(capsys, data, tmp_path / "out", "--methods", "told", "--instructions", "viewing", "make coffee")
    assert "not understood" in said


def test_every_task_is_measured_under_every_instruction(told, data, tmp_path):
    options = ("--set", "street", "--methods", "irvf-base", "told", "--instructions", "detection", "viewing")
    assert evaluate(data, tmp_path / "out", *options) == 0
    means = {(line["row"], line["metric"]): line for line in table(tmp_path / "out" / "means.csv")}
    for metric in ("mAP50-95", "mIoU", "mF", "MAE", "Em"):
        for text in ("detection", "viewing"):
            line = means[f"told: {text}", metric]
            low, high = float(line["difference_low"]), float(line["difference_high"])
            assert low <= float(line["difference"]) <= high
    # Thermal alone shows the warm block brighter than the mean of both, RGB alone not at all.
    assert float(means["told: detection", "mIoU"]["difference_low"]) > 0.3
    assert float(means["told: viewing", "MAE"]["difference_low"]) > 0


@pytest.mark.parametrize(("count", "wanted", "chosen"), [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (3, 1, [0])])
def test_pairs_are_chosen_evenly(count, wanted, chosen):
    assert spread(count, wanted) == chosen


def test_everything_is_measured_and_written(models, data, tmp_path, capsys):
    output = tmp_path / "out"
    assert evaluate(data, output, "--methods", *SOURCES, "irvf-base") == 0
    written = {path.name for path in output.iterdir()}
    assert written == {
        *("report.md", "results.csv", "means.csv", "precision_recall_street.png"),
        *(f"{kind}_{name}.png" for kind in ("violins", "contact_sheet") for name in ("street", "harbour")),
    }
    for name in written:
        if name.endswith(".png"):
            assert min(cv2.imread(str(output / name)).shape[:2]) > 200
    rows = [*SOURCES, "irvf-base"]
    images = table(output / "results.csv")
    expected = [("harbour", row, pair) for row in rows for pair in "xy"]
    expected += [("street", row, pair) for row in rows for pair in "abc"]
    assert [(line["set"], line["row"], line["pair"]) for line in images] == expected
    assert all(float(line[metric]) == float(line[metric]) for line in images for metric in METRICS)
    assert all((line["mF"] != "") == (line["set"] == "street") for line in images)
    report = (output / "report.md").read_text("utf-8")
    assert report.strip() in capsys.readouterr().out
    street = report[report.index("## street") :]
    assert "3 pairs, `a` to `c`" in street
    for part in ("### Fusion quality", "### Detection", "### Segmentation", "### Saliency"):
        section = street[street.index(part) :].split("\n\n")[2]
        assert [line.split("|")[1].strip() for line in section.splitlines()[2:]] == rows
    assert street.count("pseudo-labels") == 2
    harbour = report[report.index("## harbour") : report.index("## street")]
    assert "### Fusion quality" in harbour
    assert "### Detection" not in harbour


def test_figures_are_those_of_the_images(models, data, tmp_path):
    assert evaluate(data, tmp_path / "out", "--set", "street", "--methods", *SOURCES, "irvf-base") == 0
    means = {(line["row"], line["metric"]): line for line in table(tmp_path / "out" / "means.csv")}
    pairs = [pair.load() for pair in find_pairs(data, ["street"])]
    assert float(means["thermal", "SD"]["value"]) == pytest.approx(np.mean([t.std() for t, _ in pairs]), rel=1e-5)
    # The detector finds the one object in every image whose mean is above 0.01: all rows are perfect in it.
    for row in (*SOURCES, "irvf-base"):
        assert float(means[row, "mAP50-95"]["value"]) == pytest.approx(1)
    # Thermal is over 0.6 in the warm block only, RGB nowhere, the mean of both neither.
    assert float(means["thermal", "IoU person"]["value"]) > 0.8
    assert float(means["rgb", "IoU person"]["value"]) == 0
    assert float(means["thermal", "mIoU"]["difference"]) > 0.3
    assert float(means["thermal", "mIoU"]["difference_low"]) > 0.3
    assert float(means["thermal", "MAE"]["value"]) < float(means["rgb", "MAE"]["value"])
    # The base network is the mean of both planes, as the plain method: paired, they differ by rounding.
    for metric in ("mIoU", "mF", "MAE", "Em", "mAP50-95", "mAP50", "mAP75"):
        line = means["average", metric]
        assert [float(line[f"difference{end}"]) for end in ("", "_low", "_high")] == pytest.approx([0, 0, 0], abs=2e-3)
        assert means["irvf-base", metric]["difference"] == ""
        assert line["better"] == ("smaller" if metric == "MAE" else "larger")
        low, value, high = (float(line[name]) for name in ("value_low", "value", "value_high"))
        assert low <= value <= high
    assert means["average", "EN"]["difference"] == ""


def test_true_masks_take_the_place_of_pseudo_labels(models, data, tmp_path):
    masks = data / "harbour" / "saliency"
    masks.mkdir()
    x0, y0, x1, y1 = WARM
    for name in "xy":
        mask = np.zeros(SIZE, np.uint8)
        mask[y0:y1, x0:x1] = 255
        cv2.imwrite(str(masks / f"{name}.png"), mask)
    options = ("--set", "harbour", "--what", "saliency", "--methods", "thermal", "rgb")
    assert evaluate(data, tmp_path / "out", *options) == 0
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "true masks" in report
    assert "pseudo" not in report
    assert "### Fusion quality" not in report
    means = {(line["row"], line["metric"]): float(line["value"]) for line in table(tmp_path / "out" / "means.csv")}
    # The map of the thermal image is about 220 / 255 in the mask and 40 / 255 outside.
    inside = (x1 - x0) * (y1 - y0) / (SIZE[0] * SIZE[1])
    assert means["thermal", "MAE"] == pytest.approx(inside * 35 / 255 + (1 - inside) * 40 / 255, abs=0.01)
    assert not (tmp_path / "out" / "violins_harbour.png").exists()


def test_pairs_can_be_chosen(models, data, tmp_path, capsys):
    options = ("--set", "street", "--what", "fusion", "--methods", "max")
    assert evaluate(data, tmp_path / "from", *options, "--from", "street=b") == 0
    assert "2 pairs, `b` to `c`" in capsys.readouterr().out
    assert evaluate(data, tmp_path / "limit", *options, "--limit", 2) == 0
    assert {line["pair"] for line in table(tmp_path / "limit" / "results.csv")} == {"a", "c"}


def test_the_same_seed_gives_the_same_intervals(models, data, tmp_path):
    options = ("--set", "street", "--methods", "max", "thermal", "--what", "fusion")
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        assert evaluate(data, tmp_path / name, *options, "--seed", seed) == 0
    means = [(tmp_path / name / "means.csv").read_text() for name in ("one", "two", "three")]
    assert means[0] == means[1] != means[2]


def refused(capsys, *arguments):
    assert evaluate(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("irvf: ")]
    return line


def test_missing_models_are_named_at_once(models, data, tmp_path, capsys):
    said = refused(capsys, data, tmp_path / "out", "--methods", "max", "nothing", "nowhere")
    assert "no model 'nothing'" in said
    assert "no model 'nowhere'" in said
    assert "laplacian" in said
    assert not (tmp_path / "out").exists()
    said = refused(capsys, data, tmp_path / "out", "--methods", "max", "--detector", "blind", "--saliency", "dull")
    assert "for detection: no model 'blind'" in said
    assert "for saliency: no model 'dull'" in said


def test_task_networks_are_not_needed_where_nothing_is_labelled(models, data, tmp_path):
    options = ("--set", "harbour", "--methods", "max", "--detector", "blind")
    assert evaluate(data, tmp_path / "out", *options) == 0


def test_networks_must_know_the_same_classes(models, data, tmp_path, capsys):
    config = models / "segmentation" / "config.yaml"
    config.write_text(config.read_text().replace("bicycle", "tram"))
    assert "same classes" in refused(capsys, data, tmp_path / "out", "--methods", "max")


def test_unusable_data_is_listed(models, data, tmp_path, capsys):
    out = tmp_path / "out"
    write_boxes(data / "street", "a", "7 0.5 0.5 0.1 0.1\n")
    (data / "street" / "rgb" / "b.png").write_bytes(b"no image")
    cv2.imwrite(str(data / "street" / "rgb" / "c.png"), np.zeros((50, 50, 3), np.uint8))
    said = refused(capsys, data, out, "--methods", "max")
    assert "3 pairs cannot be used" in said
    for fault in ("class 7 is unknown", "b.png is not a readable image", "RGB 50x50"):
        assert fault in said
    (data / "street" / "rgb" / "a.png").unlink()
    assert "no partner of the same name: street/a" in refused(capsys, data, out, "--methods", "max")
    assert not out.exists()


def test_masks_that_do_not_fit_are_listed(models, data, tmp_path, capsys):
    (data / "harbour" / "saliency").mkdir()
    cv2.imwrite(str(data / "harbour" / "saliency" / "x.png"), np.zeros((50, 60), np.uint8))
    said = refused(capsys, data, tmp_path / "out", "--set", "harbour", "--methods", "max")
    assert "x.png is 60x50" in said
    assert "y.png is not a readable mask" in said


def test_small_images_are_refused(models, pair_folder, tmp_path, capsys):
    root = pair_folder(("a",), "tiny", (40, 64))
    assert "at least 41" in refused(capsys, root, tmp_path / "out", "--methods", "max")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "desert"], "desert"),
        (["--from", "street"], "SET=NAME"),
        (["--from", "desert=a"], "desert"),
        (["--from", "street=z"], "no pair of street comes at or after 'z'"),
        (["--limit", "-1"], "--limit -1"),
        (["--resamples", "0"], "--resamples 0"),
        (["--scale", "1.5"], "processing_scale is 1.5"),
        (["--set", "harbour", "--what", "detection"], "nothing to measure"),
        (["--boxes", "boxes_of_cats", "--what", "segmentation"], "boxes_of_cats"),
    ],
)
def test_options_that_make_no_sense_are_refused(models, data, tmp_path, capsys, options, said):
    assert said in refused(capsys, data, tmp_path / "out", "--methods", "max", *options)


def test_boxes_of_another_folder_are_not_taken_by_themselves(data):
    (data / "street" / "boxes_fusion").rename(data / "street" / "boxes")
    truth = find_truth(data / "street", "boxes_fusion", LABELS)
    assert truth.tasks == ()
    assert find_truth(data / "street", "boxes", LABELS).tasks == ("detection", "segmentation", "saliency")


def test_objects_of_another_pass_are_left_out_of_the_masks(data):
    folder = data / "street" / "boxes_visible"
    folder.mkdir()
    (folder / "a.txt").write_text("0 0.15 0.5 0.1 0.2\n")
    pair = find_pairs(data, ["street"])[0]
    thermal, _ = pair.load()
    truth = load_truth(pair, thermal, find_truth(data / "street", "boxes_fusion", LABELS), ["segmentation", "saliency"])
    for mask, inside in ((truth.semantic, 1), (truth.saliency, 1)):
        assert mask[48, 19] == IGNORED
        assert mask[52, 80] == inside
        assert mask[90, 120] == 0
    check_pairs([pair], {"street": find_truth(data / "street", "boxes_fusion", LABELS)}, ["detection"])


def test_rows_that_are_the_same_fusion_differ_by_nothing(models, data):
    rows = make_rows(["irvf-base", "max"], ["viewing"], threads=1)
    twin = [*rows, type(rows[0])("twin", rows[0].fuse)]
    networks = load_networks({"saliency": "saliency"}, ["saliency"], threads=1)
    truth = find_truth(data / "street", "boxes_fusion", LABELS)
    pairs = find_pairs(data, ["street"])
    calls = []
    result = compare_rows(pairs, twin, networks, truth, fusion=True, done=lambda: calls.append(1))
    assert len(calls) == 9
    figures = set_figures(result, draw_resamples(3, 30))
    same = [figure for figure in figures if figure.row == "twin" and figure.group == "saliency"]
    assert {figure.metric for figure in same} == {"mF", "MAE", "Em"}
    assert all(figure.difference.interval == (0, 0) for figure in same)
    ranks = mean_ranks(figures)
    assert ranks["twin"].value == ranks["irvf-base"].value
    assert sum(entry.value for entry in ranks.values()) == pytest.approx(1 + 2 + 3)


def figure(row, metric, value):
    return Figure("set", row, "fusion", metric, Statistic(value, np.array([value, value])))


def test_mean_rank_worked_out():
    # One row wins all but the last metric; the others share the second place, then share the first.
    figures = []
    for metric in RANKED:
        last = metric == RANKED[-1]
        for row, value in (("one", 0.0 if last else 3.0), ("two", 1.0), ("three", 1.0)):
            figures.append(figure(row, metric, value))
    ranks = mean_ranks(figures)
    assert ranks["one"].value == pytest.approx((7 * 1 + 3) / 8)
    assert ranks["two"].value == ranks["three"].value == pytest.approx((7 * 2.5 + 1.5) / 8)
    np.testing.assert_allclose(ranks["one"].resampled, ranks["one"].value)


def test_cameras_alone_can_be_left_out_of_the_ranks():
    figures = [figure(row, metric, value) for metric in RANKED for row, value in (("rgb", 3), ("max", 2), ("irvf", 1))]
    assert {row: rank.value for row, rank in mean_ranks(figures).items()} == {"rgb": 1, "max": 2, "irvf": 3}
    assert {row: rank.value for row, rank in mean_ranks(figures, sources=False).items()} == {"max": 1, "irvf": 2}


def test_ranks_of_all_sets_stand_side_by_side(models, data, tmp_path):
    assert evaluate(data, tmp_path / "out", "--what", "fusion", "--methods", *SOURCES, "max") == 0
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    lines = report[report.index("## Mean ranks") :].split("\n\n")[2].splitlines()
    assert lines[0] == "| row | harbour ↓ | street ↓ | mean ↓ | fusions only, mean ↓ |"
    cells = {line.split("|")[1].strip(): [c.strip(" *") for c in line.split("|")[2:-1]] for line in lines[2:]}
    assert list(cells) == [*SOURCES, "max"]
    for values in cells.values():
        assert float(values[2]) == pytest.approx((float(values[0]) + float(values[1])) / 2, abs=0.011)
    assert sum(float(values[0]) for values in cells.values()) == pytest.approx(1 + 2 + 3 + 4, abs=0.03)
    assert [cells[row][3] for row in ("thermal", "rgb")] == ["", ""]
    assert float(cells["average"][3]) + float(cells["max"][3]) == pytest.approx(3)


def test_sets_without_objects_have_no_detection_figures():
    nothing = Truth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    row = RowResult(detections=[(Detection(Box(0, 0, 5, 5), "person", 0.5),)])
    result = SetResult("empty", ("a",), SetTruth(None, None), [nothing], LABELS, {"max": row}, ("a",))
    assert set_figures(result, draw_resamples(1, 5)) == []
