"""The `irvf` command as a user meets it: files in, files out, and one line when something is wrong."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from irvf.bags import open_bag
from irvf.cli import doctor
from irvf.cli.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path, scene):
    """Thermal and RGB image files."""
    thermal, rgb = scene(96, 128)
    cv2.imwrite(str(tmp_path / "thermal.png"), thermal)
    cv2.imwrite(str(tmp_path / "thermal16.png"), 30_000 + 10 * thermal.astype(np.uint16))
    cv2.imwrite(str(tmp_path / "thermal.tiff"), 20 + thermal.astype(np.float32) / 16)
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb[..., ::-1])
    return tmp_path


@pytest.fixture
def refusal(capfd):
    """Return a function that runs a command which must fail, and gives back the one line that it says."""

    def run(*arguments):
        capfd.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        lines = capfd.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("irvf: ")
        return lines[0]

    return run


def fuse(folder, thermal="thermal.png", rgb="rgb.png", output="fused.png", *options):
    arguments = [folder / thermal, folder / rgb, "-o", folder / output, "--model", "max", *options]
    return ["fuse", *map(str, arguments)]


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["train", "base", "--help"]]
)
def test_help_says_how_to_use_it(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: irvf")
    assert all(name in said for name in COMMANDS) or arguments[0] != "--help"


@pytest.mark.parametrize("arguments", [[], ["melt"], ["fuse", "one.png"]])
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_command_that_cannot_run_does_not_take_the_others_with_it():
    script = (
        "import sys; sys.modules['rosbags'] = None; from irvf.cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(*arguments):
        return subprocess.run(  # noqa: S603  (this interpreter, a fixed script)
            [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )

    assert run("fuse", "--help").returncode == 0
    done = run("bag", "a", "b", "c.mcap")
    assert done.returncode == 2
    assert "irvf doctor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("thermal", ["thermal.png", "thermal16.png", "thermal.tiff"])
def test_fuse_takes_every_depth(files, thermal, capsys):
    assert main(fuse(files, thermal)) == 0
    fused, rgb = (cv2.imread(str(files / name)) for name in ("fused.png", "rgb.png"))
    assert fused.shape == rgb.shape
    assert fused[40:70, 70:90].min() > 150  # the warm block, dark in RGB
    assert "fused.png (viewing" in capsys.readouterr().out


def test_fuse_keeps_colours_in_their_order(files):
    assert main(fuse(files, "thermal.png")) == 0
    blue, _, red = cv2.imread(str(files / "fused.png"))[30, 25].astype(int)
    assert red > blue + 80


def test_fuse_detects_and_draws(files, capsys):
    options = ("--instruction", "find people", "--overlay", str(files / "overlay.jpg"))
    assert main(fuse(files, "thermal.png", "rgb.png", "fused.png", *options)) == 0
    assert "(detection" in capsys.readouterr().out
    assert cv2.imread(str(files / "overlay.jpg")).shape == (96, 128, 3)


def test_fuse_writes_segmentation_and_saliency_beside_the_image(files, known_models, monkeypatch, capsys):
    monkeypatch.setenv("IRVF_MODEL_PATH", str(Path(known_models.segmentation).parent))
    bright = np.zeros((96, 128, 3), np.uint8)
    bright[20:60, 30:90] = (30, 20, 250)  # red in OpenCV's order: a person to the known network
    cv2.imwrite(str(files / "rgb.png"), bright)
    cv2.imwrite(str(files / "thermal.png"), np.zeros((96, 128), np.uint8))
    assert main(fuse(files, "thermal.png", "rgb.png", "out.jpg", "--instruction", "segmentation")) == 0
    assert "out_segmentation.png (0 background, 1 person, 2 bicycle, 3 car)" in capsys.readouterr().out
    segmentation = cv2.imread(str(files / "out_segmentation.png"), cv2.IMREAD_UNCHANGED)
    assert segmentation.shape == (96, 128)
    assert (segmentation[25:55, 35:85] == 1).all()
    assert not segmentation[65:].any()
    assert main(fuse(files, "thermal.png", "rgb.png", "out.jpg", "--instruction", "saliency")) == 0
    saliency = cv2.imread(str(files / "out_saliency.png"), cv2.IMREAD_UNCHANGED)
    assert abs(int(saliency[40, 60]) - 100) <= 2
    assert saliency[80:].max() == 0


def test_fuse_follows_the_instruction(files, known_models, capsys):
    cv2.imwrite(str(files / "thermal.png"), np.full((96, 128), 200, np.uint8))
    cv2.imwrite(str(files / "rgb.png"), np.full((96, 128, 3), 40, np.uint8))
    for text, source, grey in (
        ("viewing", "text", 40),
        ("detect", "text", 200),
        ("do not detect anything", "task", 40),
    ):
        options = ("--model", known_models.fusion, "--instruction", text)
        assert main(fuse(files, "thermal.png", "rgb.png", "fused.png", *options)) == 0
        assert f"prompt of the {source}" in capsys.readouterr().out
        np.testing.assert_allclose(cv2.imread(str(files / "fused.png")).astype(int), grey, atol=1)


@pytest.mark.parametrize("kind", ["detector", "segmentation", "saliency"])
def test_fuse_needs_no_task_network_to_view(files, monkeypatch, tmp_path, refusal, kind):
    broken = tmp_path / "models" / kind
    broken.mkdir(parents=True)
    (broken / "config.yaml").write_text(f"kind: {kind}\n")
    monkeypatch.setenv("IRVF_MODEL_PATH", str(broken.parent))
    assert main(fuse(files)) == 0
    task = "detection" if kind == "detector" else kind
    assert "onnx" in refusal(*fuse(files, "thermal.png", "rgb.png", "fused.png", "--instruction", task))


def test_fuse_names_files_that_cannot_be_used(files, refusal):
    (files / "notes.png").write_text("no image")
    (files / "empty.png").write_bytes(b"")
    cv2.imwrite(str(files / "tiny.png"), np.zeros((8, 8), np.uint8))
    assert "absent.png" in refusal(*fuse(files, "absent.png"))
    assert "notes.png is not a readable image" in refusal(*fuse(files, "notes.png"))
    assert "empty.png is not a readable image" in refusal(*fuse(files, "thermal.png", "empty.png"))
    assert str(files) in refusal(*fuse(files, "."))
    assert "8 x 8" in refusal(*fuse(files, "tiny.png"))


def test_fuse_names_outputs_that_cannot_be_written(files, refusal):
    assert "no folder" in refusal(*fuse(files, "thermal.png", "rgb.png", "no folder/fused.png"))
    assert "ends in .png" in refusal(*fuse(files, "thermal.png", "rgb.png", "fused.xyz"))
    assert "ends in .png" in refusal(*fuse(files, "thermal.png", "rgb.png", "fused"))


def test_fuse_refuses_what_it_does_not_understand(files, refusal):
    assert "not understood" in refusal(*fuse(files), "--instruction", "make coffee")
    assert "processing_scale is 3.0" in refusal(*fuse(files), "--scale", "3")
    assert "no model 'unheard'" in refusal(*fuse(files), "--model", "unheard")


def test_bag_pairs_by_name(pair_folder, tmp_path):
    root, bag = pair_folder(("a", "b", "c")) / "street", tmp_path / "drive.mcap"
    assert main(["bag", str(root / "thermal"), str(root / "rgb"), str(bag), "--rate", "5", "--repeat", "2"]) == 0
    with open_bag(bag) as reader:
        messages = {"/thermal/image_raw": [], "/rgb/image_raw": []}
        for connection, _, data in reader.messages():
            messages[connection.topic].append(reader.deserialize(data, connection.msgtype))
    thermal, rgb = messages.values()
    assert len(thermal) == len(rgb) == 6
    stamps = [
        [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in m] for m in (thermal, rgb)
    ]
    assert stamps[0] == stamps[1]
    assert set(np.diff(stamps[0])) == {200_000_000}
    assert (thermal[0].encoding, rgb[0].encoding) == ("mono8", "bgr8")
    expected = cv2.imread(str(root / "rgb" / "c.png"))
    np.testing.assert_array_equal(rgb[5].data.reshape(48, 64, 3), expected)


def test_bag_pairs_by_order_where_no_name_is_shared(pair_folder, tmp_path, capsys):
    root = pair_folder(("a", "b")) / "street"
    for name in ("a", "b"):
        (root / "thermal" / f"{name}.png").rename(root / "thermal" / f"t_{name}.png")
    assert main(["bag", str(root / "thermal"), str(root / "rgb"), str(tmp_path / "drive.db3")]) == 0
    assert "2 pairs" in capsys.readouterr().out


def test_bag_keeps_sixteen_bits(files, tmp_path):
    folders = tmp_path / "t", tmp_path / "r"
    for folder, name in zip(folders, ("thermal16.png", "rgb.png"), strict=True):
        folder.mkdir()
        (files / name).rename(folder / "a.png")
    assert main(["bag", *map(str, folders), str(tmp_path / "drive.mcap")]) == 0
    with open_bag(tmp_path / "drive.mcap") as reader:
        (message,) = [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == "/thermal/image_raw"
        ]
    assert (message.encoding, message.step) == ("mono16", 256)
    assert message.data.view("<u2").max() > 32_000


def test_bag_lists_images_without_a_partner(pair_folder, tmp_path, refusal):
    root = pair_folder(("a", "b", "c")) / "street"
    (root / "thermal" / "a.png").unlink()
    (root / "rgb" / "c.png").unlink()
    said = refusal("bag", root / "thermal", root / "rgb", tmp_path / "drive.mcap")
    assert "2 images" in said
    assert str(root / "rgb" / "a.png") in said
    assert str(root / "thermal" / "c.png") in said


def test_bag_refuses_folders_and_rates_that_make_no_bag(pair_folder, tmp_path, refusal):
    root = pair_folder(("a", "b")) / "street"
    (tmp_path / "nothing").mkdir()
    folders = root / "thermal", root / "rgb"
    assert "is not a folder" in refusal("bag", root / "heat", root / "rgb", tmp_path / "x.mcap")
    assert "none share a name" in refusal("bag", tmp_path / "nothing", root / "rgb", tmp_path / "x.mcap")
    assert "--rate" in refusal("bag", *folders, tmp_path / "x.mcap", "--rate", "0")
    assert "--repeat" in refusal("bag", *folders, tmp_path / "x.mcap", "--repeat", "0")
    assert "other things than a bag" in refusal("bag", *folders, root)
    assert len(list((root / "rgb").iterdir())) == 2


def test_bag_leaves_nothing_when_an_image_is_damaged(pair_folder, tmp_path, capsys):
    root = pair_folder(("a", "b")) / "street"
    (root / "rgb" / "b.png").write_bytes(b"no image")
    assert main(["bag", str(root / "thermal"), str(root / "rgb"), str(tmp_path / "out" / "drive.mcap")]) == 2
    assert "b.png is not a readable image" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_evaluate_prints_a_row_for_each_fusion(pair_folder, tmp_path, capsys):
    pytest.importorskip("pycocotools", reason="irvf evaluate needs pycocotools")
    pytest.importorskip("matplotlib", reason="irvf evaluate needs matplotlib")
    root, output = pair_folder(("a", "b", "c")), tmp_path / "measured"
    arguments = ["--data", str(root), "--from", "street=b", "--methods", "max", "average", "--output", str(output)]
    assert main(["evaluate", *arguments]) == 0
    said = capsys.readouterr().out
    assert "## street: 2 pairs, `b` to `c`" in said
    lines = said[said.index("### Fusion quality") : said.index("Their intervals")].splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if "|" in line}
    deviation = [float(rows[name][2].strip(" *")) for name in ("max", "average")]
    assert deviation[0] > deviation[1]  # taking the maximum keeps more contrast than the mean
    assert f"written: {output / 'report.md'}" in said


def test_evaluate_names_a_set_that_is_not_there(pair_folder, capsys):
    pytest.importorskip("pycocotools", reason="irvf evaluate needs pycocotools")
    pytest.importorskip("matplotlib", reason="irvf evaluate needs matplotlib")
    assert main(["evaluate", "--data", str(pair_folder()), "--set", "harbour"]) == 2
    assert "harbour" in capsys.readouterr().err


@pytest.fixture
def installed(monkeypatch):
    """What is installed is not looked at: importing it all takes long, and the models are what matters here."""
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(doctor, "_PACKAGES", {"numpy": ("numpy", "everything", True)})


def test_the_doctor_finds_nothing_wrong_here(installed, capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "!!" not in said
    for subject in (
        "numpy",
        "model irvf",
        "model detector",
        "engine onnxruntime, irvf",
        "engine auto, saliency",
        "ROS 2",
    ):
        assert subject in said


def test_the_doctor_names_what_is_broken(installed, tmp_path, monkeypatch, capsys):
    for name, content in (("torn", "kind: fusion\nonnx: net.onnx\nlicence: MIT\n"), ("odd", "kind: toaster\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(content)
    (tmp_path / "torn" / "net.onnx").write_bytes(b"no network")
    monkeypatch.setenv("IRVF_MODEL_PATH", str(tmp_path))
    monkeypatch.setitem(doctor._PACKAGES, "no_such_module", ("no-such-package", "everything", True))
    assert main(["doctor"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("!!")]
    assert any("model odd" in line and "toaster" in line for line in wrong)
    assert any("engine onnxruntime, torn" in line and "net.onnx" in line for line in wrong)
    assert any("pip install no-such-package" in line for line in wrong)
    assert not any(", irvf" in line for line in wrong)
