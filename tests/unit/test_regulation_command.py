"""`irvf train regulation`: from images and model folders to a fusion that instructions change."""

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file

from irvf.cli.__main__ import main
from irvf.frames import Frame, FramePair
from irvf.pipeline import FusionPipeline, PipelineConfig, read_instruction
from irvf.training.task_losses import TASKS

TINY_YAML = """
labelled: street
channels: 4
blocks: 2
steps: 100
windows:
- {{until: 1.0, size: [96, 96], batch: 1}}
base: {root}/base
detector: {root}/detector
segmentation: {root}/segmentation
saliency: {root}/saliency
"""


@pytest.fixture
def command(exported, tmp_path):
    def make(data, *more):
        config = tmp_path / "regulation.yaml"
        config.write_text(TINY_YAML.format(root=exported.root))
        return ["train", "regulation", f"--data={data}", f"--config={config}", f"--output={tmp_path / 'run'}", *more]

    return make


def test_the_command_makes_a_fusion_that_instructions_change(command, labelled_folder, tmp_path, capsys, scene):
    assert main(command(labelled_folder(), "--steps=5", "--threads=1")) == 0
    model = tmp_path / "run" / "model"
    assert str(model) in capsys.readouterr().out
    assert {path.name for path in model.iterdir()} == {"config.yaml", "fusion.onnx", "fusion.safetensors"}
    pipeline = FusionPipeline(PipelineConfig(model=str(model), detector="", segmentation="", saliency="", threads=1))
    thermal, rgb = scene(50, 61)
    pair = FramePair(Frame(thermal, "mono8"), Frame(rgb, "rgb8"))
    for task in TASKS:
        assert pipeline.fuse(pair, read_instruction(task)).fused.shape == rgb.shape
    stored = load_file(model / "fusion.safetensors")
    assert {name for name in stored if name.startswith("centroids.")} == {f"centroids.{t}" for t in TASKS}


def test_bad_data_is_one_message_and_nothing_is_trained(command, labelled_folder, pair_folder, tmp_path, capsys):
    root = labelled_folder()
    pair_folder(("x",), dataset="forest")
    (root / "street" / "rgb" / "a.png").write_bytes(b"no image")
    (root / "street" / "boxes_fusion" / "b.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    (root / "street" / "boxes_fusion" / "c.txt").write_text("0 0.5 0.5 7 0.1\n")
    cv2.imwrite(str(root / "forest" / "thermal" / "x.png"), np.zeros((20, 30), np.uint8))
    assert main(command(root)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    for fault in ("4 pairs cannot be used", "a.png is not a readable image", "b.txt:1: class 9 is unknown",
                  "c.txt:1: ", "forest/x: thermal is 30x20, RGB 64x48"):  # fmt: skip
        assert fault in said
    assert not (tmp_path / "run").exists()


def test_bad_data_is_left_out_where_told_to(command, labelled_folder, pair_folder, tmp_path, capsys):
    root = labelled_folder(("a", "b", "c", "d"))
    pair_folder(("x", "y"), dataset="forest")
    (root / "street" / "rgb" / "a.png").write_bytes(b"no image")
    (root / "street" / "boxes_fusion" / "b.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    (root / "street" / "thermal" / "c.png").unlink()
    cv2.imwrite(str(root / "forest" / "thermal" / "x.png"), np.zeros((20, 30), np.uint8))
    assert main(command(root, "--steps=2", "--threads=1", "--skip-unusable")) == 0
    said = capsys.readouterr().err
    for fault in ("skipped: 1 images have no partner of the same name: street/c", "skipped: 3 pairs cannot be used",
                  "a.png is not a readable image", "b.txt:1: class 9 is unknown", "forest/x: "):  # fmt: skip
        assert fault in said
    assert (tmp_path / "run" / "model" / "fusion.onnx").is_file()


def test_nothing_left_after_skipping_is_refused(command, labelled_folder, capsys):
    root = labelled_folder(("a",))
    (root / "street" / "rgb" / "a.png").write_bytes(b"no image")
    assert main(command(root, "--skip-unusable")) == 2
    assert "is left to train on" in capsys.readouterr().err


def test_an_unpaired_image_is_named(command, labelled_folder, capsys):
    root = labelled_folder()
    (root / "street" / "thermal" / "c.png").unlink()
    assert main(command(root)) == 2
    assert "no partner of the same name: street/c" in capsys.readouterr().err


def test_a_base_of_another_size_is_refused(command, labelled_folder, tmp_path, capsys):
    arguments = command(labelled_folder())
    config = tmp_path / "regulation.yaml"
    config.write_text(config.read_text().replace("channels: 4", "channels: 8"))
    assert main(arguments) == 2
    assert "does not hold the weights of this network" in capsys.readouterr().err
