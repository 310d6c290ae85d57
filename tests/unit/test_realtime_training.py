"""The real-time network's training: its teacher, its resumption, and the command that makes a model folder."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from irvf.cli.__main__ import main
from irvf.frames import Frame, FramePair
from irvf.networks.box_detector import BoxDetectorNetwork
from irvf.networks.salient_object import SaliencyNetwork
from irvf.networks.segmentation_unet import SegmentationNetwork
from irvf.pipeline import FusionPipeline, PipelineConfig, read_instruction
from irvf.training import realtime
from irvf.training.data import find_pairs
from irvf.training.instruction_embeddings import Instructions
from irvf.training.pair_windows import WindowPhase
from irvf.training.realtime import RealtimeTrainingConfig, teach, train_realtime
from irvf.training.scenes import load_scenes
from irvf.training.task_losses import TASKS, TermWeights
from irvf.training.task_networks import TaskNetworks

TINY = RealtimeTrainingConfig(
    labelled="street", channels=4, blocks=2, steps=7, save_every=2, windows=(WindowPhase(1.0, (64, 64), 2),)
)
TINY_YAML = """
labelled: street
channels: 4
blocks: 2
windows:
- {{until: 1.0, size: [64, 64], batch: 1}}
teacher: {root}/regulated
detector: {root}/detector
segmentation: {root}/segmentation
saliency: {root}/saliency
"""


def encode(text):
    vector = np.random.default_rng(sum(map(ord, text))).normal(size=16)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def brighten(thermal, rgb):
    return np.clip(rgb.astype(np.int16) + 40, 0, 255).astype(np.uint8)


@pytest.fixture
def parts():
    def make():
        torch.manual_seed(11)
        networks = TaskNetworks(BoxDetectorNetwork(3), SegmentationNetwork(4), SaliencyNetwork())
        for network in (networks.detection, networks.segmentation, networks.saliency):
            network.train()(torch.rand(2, 3, 64, 64))  # statistics of images
        instructions = Instructions({task: (f"{task} now", f"{task} please") for task in TASKS}, encode)
        teacher = dict.fromkeys(("detection", "segmentation", "saliency"), brighten)
        return {"teacher": teacher, "teacher_digest": "bright", "networks": networks, "instructions": instructions}

    return make


def weights(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


def test_a_reference_of_viewing_is_refused():
    with pytest.raises(ValueError, match="viewing has no teacher"):
        dataclasses.replace(TINY, weights={**TINY.weights, "viewing": TermWeights(1.0, (1.0, 0.0))})


def test_a_task_that_nobody_teaches_is_refused(parts, labelled_folder, tmp_path):
    given = parts()
    del given["teacher"]["saliency"]
    with pytest.raises(ValueError, match="no images for saliency"):
        train_realtime(labelled_folder(), tmp_path, TINY, **given)


def test_other_tasks_take_no_part_in_viewing():
    with pytest.raises(ValueError, match="sets without labels"):
        dataclasses.replace(TINY, weights={**TINY.weights, "viewing": TermWeights(1.0, (0.0, 0.0), {"detection": 1.0})})


def test_a_task_without_a_teacher_sees_labelled_sets_only(parts, labelled_folder, pair_folder, tmp_path, monkeypatch):
    data = labelled_folder(("a",))
    pair_folder(("x", "y", "z"), dataset="forest")
    loss, seen = realtime.task_loss, {}

    def noted(task, fused, batch, *rest, **options):
        seen.setdefault(task, set()).update(batch.names)
        return loss(task, fused, batch, *rest, **options)

    monkeypatch.setattr(realtime, "task_loss", noted)
    alone = {"detection": TermWeights(1.0, (0.0, 0.0)), "viewing": TINY.weights["viewing"]}
    config = dataclasses.replace(TINY, order=("detection", "viewing"), weights=alone, steps=8)
    train_realtime(data, tmp_path, config, **{**parts(), "teacher": {}})
    assert seen["detection"] == {"street/a"}
    assert seen["viewing"] > {"forest/x"}


def test_the_teachers_images_are_kept_and_read_again(labelled_folder, tmp_path):
    scenes = load_scenes(find_pairs(labelled_folder()), TINY.annotation)
    calls = []

    def counted(thermal, rgb):
        calls.append(rgb.shape)
        return brighten(thermal, rgb)

    taught = teach(scenes, {"detection": counted}, tmp_path / "teacher")
    again = teach(scenes, {"detection": counted}, tmp_path / "teacher")
    assert len(calls) == len(scenes)
    for scene, image, kept in zip(scenes, taught["detection"], again["detection"], strict=True):
        expected = cv2.cvtColor(brighten(None, scene.rgb), cv2.COLOR_RGB2GRAY)
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(kept, expected)


def test_another_teacher_is_asked_anew_and_does_not_go_on(parts, labelled_folder, tmp_path):
    data, given = labelled_folder(), parts()
    train_realtime(data, tmp_path, TINY, **given)
    given["teacher"] = dict.fromkeys(given["teacher"], lambda _, rgb: rgb)
    with pytest.raises(ValueError, match="texts"):
        train_realtime(data, tmp_path, TINY, **{**given, "teacher_digest": "plain"})
    images = {path.parent.parent.parent.name: cv2.imread(str(path)) for path in tmp_path.glob("teacher-*/*/*/a.png")}
    assert set(images) == {"teacher-bright", "teacher-plain"}
    assert images["teacher-bright"].mean() > images["teacher-plain"].mean() + 30
    assert not list(tmp_path.rglob("*.part*"))


def test_what_the_teacher_shows_is_learnt(parts, labelled_folder, tmp_path):
    taught = {"detection": TermWeights(0.0, (8.0, 8.0))}
    config = dataclasses.replace(
        TINY, order=("detection",), weights=taught, steps=60, warm_up_steps=5, learning_rate=1e-2
    )
    data = labelled_folder()
    network = train_realtime(data, tmp_path, config, **parts())
    (scene, *_) = load_scenes(find_pairs(data), TINY.annotation)
    thermal, luma = (
        torch.from_numpy(plane / np.float32(255))[None, None]
        for plane in (scene.thermal, cv2.cvtColor(scene.rgb, cv2.COLOR_RGB2GRAY))
    )
    with torch.no_grad():
        fused = network(thermal, luma, torch.from_numpy(encode("detection now"))[None])
    target = luma + 40 / 255
    assert (fused - target).abs().mean() < 0.3 * ((thermal + luma) / 2 - target).abs().mean()


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(parts, labelled_folder, tmp_path, monkeypatch):
    data = labelled_folder()
    whole = train_realtime(data, tmp_path / "whole", TINY, **parts())
    loss, taken = realtime.task_loss, []

    def interrupted(*arguments, **options):
        if len(taken) == 5:  # after the checkpoint of step 4
            raise KeyboardInterrupt
        taken.append(arguments[0])
        return loss(*arguments, **options)

    monkeypatch.setattr(realtime, "task_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_realtime(data, tmp_path / "parts", TINY, **parts())
    monkeypatch.setattr(realtime, "task_loss", loss)
    resumed = train_realtime(data, tmp_path / "parts", TINY, **parts())
    assert torch.equal(weights(resumed), weights(whole))
    assert set(taken) == {"viewing", "detection", "saliency"}


def test_the_command_makes_a_fusion_that_instructions_change(exported, labelled_folder, tmp_path, capsys, scene):
    config = tmp_path / "realtime.yaml"
    config.write_text(TINY_YAML.format(root=exported.root) + "text_encoder: sentence-encoder\n")
    arguments = [f"--data={labelled_folder()}", f"--config={config}", f"--output={tmp_path / 'run'}"]
    model = tmp_path / "run" / "model"
    # The regulated network of the tests reads other embeddings than the shipped encoder makes.
    assert main(["train", "realtime", *arguments, "--steps=2", "--threads=1"]) == 2
    assert "width" in capsys.readouterr().err
    config.write_text(config.read_text().replace(f"{exported.root}/regulated", "laplacian"))
    assert main(["train", "realtime", *arguments, "--steps=2", "--threads=1"]) == 0
    assert {path.name for path in model.iterdir()} == {"config.yaml", "fusion.onnx", "fusion.safetensors"}
    again = f"--init={model / 'fusion.safetensors'}", f"--model={tmp_path / 'again'}"
    arguments[-1] = f"--output={tmp_path / 'second'}"
    assert main(["train", "realtime", *arguments, *again, "--steps=1", "--threads=1"]) == 0
    pipeline = FusionPipeline(PipelineConfig(model=str(model), detector="", segmentation="", saliency="", threads=1))
    thermal, rgb = scene(50, 61)
    pair = FramePair(Frame(thermal, "mono8"), Frame(rgb, "rgb8"))
    for task in TASKS:
        assert pipeline.fuse(pair, read_instruction(task)).fused.shape == rgb.shape
