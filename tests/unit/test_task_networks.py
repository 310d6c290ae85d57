"""The task networks that answer with masks: their form, that they learn, and their trainings from images to a model."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from irvf.cli.__main__ import main
from irvf.engines.factory import create_engine
from irvf.image_fusion import image_fusion
from irvf.models import load_model
from irvf.networks.salient_object import DeployedSaliencyNetwork, SaliencyNetwork
from irvf.networks.segmentation_unet import SegmentationNetwork
from irvf.training import masks
from irvf.training.averaging import follow_average
from irvf.training.checkpoint import load_encoder
from irvf.training.data import find_pairs
from irvf.training.mask_losses import saliency_loss, segmentation_loss
from irvf.training.masks import (
    MaskTrainingConfig,
    build_segmentation,
    learning_rate,
    train_saliency,
    train_segmentation,
)
from irvf.training.scenes import load_scenes
from irvf.training.task_networks import TasksTrainingConfig, load_task_networks

TINY = MaskTrainingConfig(dataset="street", fusion="max", steps=4, batch=2, side=64, input_size=(64, 96), save_every=2)
TRAININGS = {"segmentation": train_segmentation, "saliency": train_saliency}


def weights(network):
    return torch.cat([value.flatten().float() for value in network.state_dict().values()])


@pytest.fixture(scope="module")
def fuse():
    return image_fusion("max", 1)


@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_the_networks_answer_at_half_resolution(size):
    image = torch.rand(2, 3, *size)
    half = (size[0] // 2, size[1] // 2)
    with torch.no_grad():
        assert SegmentationNetwork(4).eval()(image).shape == (2, 4, *half)
        found = SaliencyNetwork().eval()(image)
        assert found.objects.shape == found.borders.shape == (2, 1, *half)
        network = SaliencyNetwork().eval()
        deployed = DeployedSaliencyNetwork(network)(image)
        torch.testing.assert_close(deployed, network(image).objects.sigmoid())


def test_the_segformer_answers_at_a_quarter():
    torch.manual_seed(0)
    network = build_segmentation(dataclasses.replace(TINY, network="segformer")).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 96)).shape == (1, 4, 16, 24)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="'resnet'; allowed: unet, segformer"):
        build_segmentation(dataclasses.replace(TINY, network="resnet"))


@pytest.mark.parametrize(("build", "loss"), [(lambda: SegmentationNetwork(2), segmentation_loss),
                                             (SaliencyNetwork, saliency_loss)])  # fmt: skip
def test_a_network_learns_to_find_an_object(build, loss):
    torch.manual_seed(0)
    network, truth = build(), torch.zeros(2, 64, 64, dtype=torch.int64)
    truth[0, 16:48, 8:32], truth[1, 16:48, 32:56] = 1, 1
    images = torch.rand(2, 3, 64, 64) * 0.3
    images[:, 0] += truth * 0.6
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(25):
        current = loss(network(images), truth)
        optimizer.zero_grad()
        current.backward()
        optimizer.step()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not idle
    with torch.no_grad():
        found = network(images)  # in training mode: the running statistics are not there yet
    mask = found.argmax(1) == 1 if isinstance(found, torch.Tensor) else found.objects[:, 0] > 0
    wanted = truth[:, ::2, ::2] == 1
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.8


def test_the_average_follows_by_its_decay():
    network, average = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    nn.init.constant_(network.weight, 3.0)
    network.running_var.fill_(5.0)
    network.num_batches_tracked.fill_(7)
    follow_average(average, network, 0.9, step=1000)
    assert average.weight.tolist() == pytest.approx([0.9 * 1 + 0.1 * 3] * 2)
    assert average.running_var.tolist() == pytest.approx([0.9 * 1 + 0.1 * 5] * 2)
    assert average.num_batches_tracked == 7
    follow_average(average, network, 0.9, step=0)  # the start is forgotten faster: one tenth stays
    assert average.weight.tolist() == pytest.approx([0.1 * 1.2 + 0.9 * 3] * 2)


def test_the_learning_rate_warms_up_and_falls():
    config = dataclasses.replace(TINY, steps=100, warm_up_steps=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, abs=0.01)
    short = dataclasses.replace(config, steps=5)
    assert all(0 < learning_rate(short, step) <= 0.5 for step in range(5))


def test_a_batch_shows_the_labels_where_the_image_does(labelled_folder, fuse):
    scenes = [
        masks.FusedScene(fuse(scene.thermal, scene.rgb), scene.semantic, scene)
        for scene in load_scenes(find_pairs(labelled_folder(("a", "b"))), TINY.annotation)
    ]
    config = dataclasses.replace(TINY, batch=8, tone_changes=0.0)
    images, truth, names = masks.sample_batch(scenes, config, 3, torch.device("cpu"))
    assert images.shape == (8, 3, 64, 64)
    assert truth.shape == (8, 64, 64)
    assert set(names) <= {"street/a", "street/b"}
    assert set(truth.unique().tolist()) == {0, 1, 255}
    outside = ((images * 255).round() == 114).all(1)  # the level of the border, which no pixel of the scenes has
    assert (truth[outside] == 255).float().mean() > 0.95
    warm = images.amin(1) > 0.75  # the warm block outshines everything under maximum fusion
    assert (warm & (truth == 1)).sum() / (warm | (truth == 1)).sum() > 0.7
    again = masks.sample_batch(scenes, config, 3, torch.device("cpu"))
    assert torch.equal(images, again[0])
    assert not torch.equal(images, masks.sample_batch(scenes, config, 4, torch.device("cpu"))[0])


@pytest.mark.parametrize("task", TRAININGS)
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(task, labelled_folder, fuse, tmp_path, monkeypatch):
    data, train, sample = labelled_folder(), TRAININGS[task], masks.sample_batch
    whole = train(data, tmp_path / "whole", TINY, fuse)
    assert not whole.training
    saved = load_file(tmp_path / "whole" / "checkpoint.safetensors")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, saved[f"average/{name}"])

    def interrupted(scenes, config, step, device):
        if step == 3:  # after the checkpoint of step 2
            raise KeyboardInterrupt
        return sample(scenes, config, step, device)

    monkeypatch.setattr(masks, "sample_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "parts", TINY, fuse)
    monkeypatch.setattr(masks, "sample_batch", sample)
    torch.testing.assert_close(weights(train(data, tmp_path / "parts", TINY, fuse)), weights(whole))
    with pytest.raises(ValueError, match=r"other settings \(side\)"):
        train(data, tmp_path / "parts", dataclasses.replace(TINY, side=96), fuse)


def test_a_loss_that_is_not_finite_names_the_images(labelled_folder, fuse, tmp_path, monkeypatch):
    sample = masks.sample_batch

    def spoilt(scenes, config, step, device):
        images, truth, names = sample(scenes, config, step, device)
        return (images * torch.nan if step == 2 else images), truth, names

    monkeypatch.setattr(masks, "sample_batch", spoilt)
    with pytest.raises(FloatingPointError, match=r"saliency: loss is nan at step 2, on street/[abc], street/[abc]; "):
        train_saliency(labelled_folder(), tmp_path, TINY, fuse)
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert all(value.isfinite().all() for value in kept.values())


def test_a_training_starts_from_the_encoder_of_another_network(exported, labelled_folder, fuse, tmp_path):
    frozen = dataclasses.replace(TINY, steps=1, learning_rate=0.0, weight_decay=0.0)
    detector = exported.root / "detector" / "detector.safetensors"
    started = train_segmentation(labelled_folder(), tmp_path, frozen, fuse, initial=detector)
    stored = load_file(detector)
    name = "encoder.stem.0.weight"
    torch.testing.assert_close(started.state_dict()[name], stored[name].float())
    fusion = exported.root / "base" / "fusion.safetensors"
    with pytest.raises(ValueError, match="has no encoder of this form"):
        load_encoder(SegmentationNetwork(4), fusion)


def test_task_networks_come_from_their_model_folders(exported):
    paths = {name: str(exported.root / name) for name in ("detector", "segmentation", "saliency")}
    networks = load_task_networks(**paths, classes=3)
    for name, network in (("segmentation", networks.segmentation), ("saliency", networks.saliency)):
        torch.testing.assert_close(
            weights(network), weights(getattr(exported, name)), rtol=2**-10, atol=1e-4
        )  # half precision
    with pytest.raises(ValueError, match="does not hold the weights of this network"):
        load_task_networks(**paths, classes=5)
    with pytest.raises(ValueError, match="a saliency is wanted"):
        load_task_networks(**{**paths, "saliency": paths["segmentation"]}, classes=3)


TINY_YAML = """
segmentation:
  dataset: street
  fusion: max
  steps: 100
  batch: 2
  side: 64
  input_size: [64, 96]
"""


def test_the_command_makes_a_segmentation(labelled_folder, tmp_path, capsys):
    config, output = tmp_path / "tasks.yaml", tmp_path / "run"
    config.write_text(TINY_YAML)
    command = ["train", "tasks", f"--data={labelled_folder()}", f"--config={config}", f"--output={output}"]
    assert main([*command, "--only=segmentation", "--steps=2", "--threads=1"]) == 0
    assert str(output / "model") in capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == {"segmentation", "model"}  # the others were not trained
    assert (output / "segmentation" / "log.csv").read_text().startswith("2,loss,")
    model = load_model(str(output / "model" / "segmentation"), "segmentation")
    assert model.labels == ("background", "person", "bicycle", "car")
    engine = create_engine("auto", model.onnx, 1)
    logits = engine.infer({"image": np.full((1, 3, 64, 96), 0.4, np.float32)})["logits"]
    assert logits.shape == (1, 4, 32, 48)


def test_initial_weights_belong_to_one_network(labelled_folder, tmp_path, capsys):
    command = ["train", "tasks", f"--data={labelled_folder()}", f"--output={tmp_path / 'run'}"]
    assert main([*command, "--init=weights.safetensors"]) == 2
    assert "say which with --only" in capsys.readouterr().err


def spoil(root):
    street = root / "street"
    (street / "rgb" / "a.png").write_bytes(b"no image")
    (street / "boxes_fusion" / "b.txt").write_text("9 0.5 0.5 0.1 0.1\n")


@pytest.mark.parametrize("task", ["detection", "segmentation", "saliency"])
def test_bad_data_is_one_message_and_nothing_is_trained(task, labelled_folder, tmp_path, capsys):
    root, output, config = labelled_folder(), tmp_path / "run", tmp_path / "tasks.yaml"
    spoil(root)
    config.write_text(f"{task}: {{dataset: street}}")
    command = ["train", "tasks", f"--data={root}", f"--config={config}", f"--output={output}", f"--only={task}"]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    for fault in ("irvf: 2 pairs cannot be used", "a.png is not a readable image", "b.txt:1: class 9 is unknown"):
        assert fault in said
    assert not output.exists()


def test_an_unpaired_image_is_named(labelled_folder, tmp_path, capsys):
    root, config = labelled_folder(), tmp_path / "tasks.yaml"
    (root / "street" / "rgb" / "b.png").unlink()
    config.write_text("saliency: {dataset: street}")
    command = ["train", "tasks", f"--data={root}", f"--config={config}", f"--output={tmp_path / 'run'}"]
    assert main([*command, "--only=saliency"]) == 2
    assert "no partner of the same name: street/b" in capsys.readouterr().err


def test_each_task_network_has_its_section():
    assert {field.name for field in dataclasses.fields(TasksTrainingConfig)} == {
        "detection",
        "segmentation",
        "saliency",
    }
