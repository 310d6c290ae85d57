"""Stage 2: what a step is trained on, what stays frozen, and that a training repeats."""

import dataclasses
import math
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.box_detector import BoxDetectorNetwork
from irvf.networks.salient_object import SaliencyNetwork
from irvf.networks.segmentation_unet import SegmentationNetwork
from irvf.networks.task_regulation import RegulatedFusionNetwork, TaskOrientedRegulation
from irvf.training import regulation
from irvf.training.data import find_pairs
from irvf.training.instructed import center_texts, cosine_rate
from irvf.training.instruction_embeddings import Instructions
from irvf.training.pair_windows import WindowPhase, cut_windows, fused_reference
from irvf.training.regulation import RegulationTrainingConfig, train_regulation
from irvf.training.scenes import load_scenes
from irvf.training.task_losses import TASKS, TermWeights, task_loss
from irvf.training.task_networks import TaskNetworks

TEXT_WIDTH = 16
WORDINGS = {task: tuple(f"{task} {word}" for word in ("now", "please", "all")) for task in TASKS}
TINY = RegulationTrainingConfig(
    labelled="street", channels=4, blocks=2, steps=6, save_every=2, windows=(WindowPhase(1.0, (96, 96), 2),)
)


def encode(text):
    """A unit vector that the first word mostly decides, as sentences of one meaning lie together."""
    words = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=TEXT_WIDTH) for word in text.split()]
    vector = 2 * words[0] + words[-1]
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def weights(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


@pytest.fixture(scope="module")
def instructions():
    return Instructions(WORDINGS, encode)


@pytest.fixture
def parts(instructions):
    """What a training is given: untrained networks, the same in every call."""

    def make():
        torch.manual_seed(11)
        base = BaseFusionNetwork(4, 2)
        base.train()(torch.rand(4, 1, 32, 32), torch.rand(4, 1, 32, 32))
        networks = TaskNetworks(BoxDetectorNetwork(3), SegmentationNetwork(4), SaliencyNetwork())
        for network in (networks.detection, networks.segmentation, networks.saliency):
            network.train()(torch.rand(2, 3, 64, 64))  # statistics of images
        return {"base": base, "networks": networks, "instructions": instructions}

    return make


@pytest.fixture
def batch(labelled_folder):
    scenes = load_scenes(find_pairs(labelled_folder()), TINY.annotation)
    return cut_windows(
        scenes, WindowPhase(1.0, (96, 96), 3), scales=(1.0, 1.0), thermal_gamma=(1.0, 1.0),
        reference=fused_reference(np.maximum), rng=np.random.default_rng(1), device=torch.device("cpu"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"order": ("detection", "driving")}, "driving"), ({"order": ()}, "nothing"),
     ({"weights": {"x": TermWeights(1.0, (0.0, 0.0))}}, "x"), ({"weights": {}}, "weights lack detection, saliency"),
     ({"weights": {"viewing": TermWeights(1.0, (0.0, 0.0), {"hearing": 1.0})}, "order": ("viewing",)}, "hearing"),
     ({"windows": (WindowPhase(1.0, (32, 64), 2),)}, "at least 41"), ({"windows": ()}, "at least one phase"),
     ({"injection": "depthwise"}, "depthwise"), ({"reference": "wavelet"}, "wavelet")],
)  # fmt: skip
def test_unknown_tasks_and_injections_are_refused_at_once(changes, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(TINY, **changes)


def test_the_learning_rate_warms_up_and_falls():
    rates = [cosine_rate(1.0, 20, 200, step) for step in range(200)]
    assert rates[0] == pytest.approx(1 / 20)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert max(rates) == rates[20] == 1
    assert rates[-1] == pytest.approx(0.05, abs=1e-3)


def test_instructions_are_blends_of_two_wordings_of_their_task(instructions):
    drawn = instructions.draw("saliency", 200, np.random.default_rng(0))
    assert drawn.shape == (200, TEXT_WIDTH)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-6)
    wordings = np.stack([encode(text) for text in WORDINGS["saliency"]])
    shares, *_ = np.linalg.lstsq(wordings.T.astype(np.float64), drawn.T, rcond=None)
    np.testing.assert_allclose(wordings.T @ shares, drawn.T, atol=1e-5)
    assert shares.min() > -1e-4
    assert ((shares > 1e-4).sum(axis=0) <= 2).all()
    assert ((shares > 1e-4).sum(axis=0) == 2).any()
    again = instructions.draw("saliency", 200, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)


def test_centroids_are_mean_directions(instructions):
    centroids = instructions.centroids()
    assert set(centroids) == set(TASKS)
    assert instructions.width == TEXT_WIDTH
    mean = np.mean([encode(text) for text in WORDINGS["viewing"]], axis=0)
    np.testing.assert_allclose(centroids["viewing"], mean / np.linalg.norm(mean), atol=1e-6)


def loss_of(task, fused, batch, networks, terms, progress=0.0):
    return task_loss(task, fused, batch, networks, terms, brightness_weight=0.5, progress=progress)


@pytest.fixture
def judges(parts):
    networks = parts()["networks"]
    for network in (networks.detection, networks.segmentation, networks.saliency):
        network.eval().requires_grad_(requires_grad=False)
    return networks


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_loss_of_the_fused_image(task, judges, batch):
    fused = (0.5 * batch.thermal + 0.5 * batch.luma).requires_grad_()
    once, twice = (loss_of(task, fused, batch, judges, TermWeights(value, (0.0, 0.0))) for value in (0.5, 1.0))
    once.backward()
    assert once.isfinite()
    assert fused.grad.abs().sum() > 0
    torch.testing.assert_close(twice, 2 * once)


def test_the_loss_of_another_task_can_take_part(judges, batch):
    def loss(task, weight, **others):
        return loss_of(task, batch.reference, batch, judges, TermWeights(weight, (0.0, 0.0), others)).item()

    alone = loss("detection", 1.0), loss("saliency", 1.0)
    assert loss("detection", 0.5, saliency=2.0) == pytest.approx(0.5 * alone[0] + 2 * alone[1], rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_distance_to_the_reference_loses_weight(task, judges, batch):
    def loss(fused, progress):
        return loss_of(task, fused, batch, judges, TermWeights(0.0, (6.0, 2.0)), progress).item()

    assert loss(batch.reference, 0.5) == pytest.approx(0, abs=1e-6)
    # A tenth brighter everywhere: edges as they are, but for nothing at the border, which is reflected.
    brighter = batch.reference + 0.1
    assert [loss(brighter, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.6, 0.4, 0.2], rel=1e-3)
    assert loss(batch.thermal, 0.0) > 0


def test_the_adapter_starts_from_what_tasks_differ_in(instructions):
    torch.manual_seed(0)
    module, plain = (TaskOrientedRegulation(TEXT_WIDTH, 4, 2) for _ in range(2))
    plain.load_state_dict(module.state_dict())
    centroids = instructions.centroids()
    center_texts(module.adapter, centroids)
    texts = torch.from_numpy(np.stack(list(centroids.values())))
    with torch.no_grad():
        adapted = module.adapter[0](texts)
        torch.testing.assert_close(adapted.mean(0), torch.zeros(512), rtol=0, atol=1e-5)
        expected = (plain.adapter[0](texts) - plain.adapter[0](texts).mean(0)) * math.sqrt(TEXT_WIDTH)
        torch.testing.assert_close(adapted, expected, rtol=0, atol=1e-5)


def test_statistics_are_the_mean_over_all_batches_and_the_base_keeps_its_own(parts, batch):
    given = parts()
    torch.manual_seed(0)
    network = RegulatedFusionNetwork(given["base"].eval(), TaskOrientedRegulation(TEXT_WIDTH, 4, 2)).eval()
    before = weights(network.base).clone()
    texts = torch.from_numpy(given["instructions"].draw("detection", 3, np.random.default_rng(0)))
    darker = dataclasses.replace(batch, thermal=batch.thermal * 0.5)
    entering = []
    first = network.regulation.thermal[0].refinement[0]
    hook = first.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0].detach().clone()))
    regulation._calibrate(network, [(batch, texts), (darker, texts)])
    hook.remove()
    expected = torch.stack([features.mean(dim=(0, 2, 3)) for features in entering]).mean(0)
    torch.testing.assert_close(first.running_mean, expected)
    variance = torch.stack([features.transpose(0, 1).flatten(1).var(1) for features in entering]).mean(0)
    torch.testing.assert_close(first.running_var, variance)
    assert torch.equal(weights(network.base), before)
    assert not any(module.training for module in network.modules())
    assert len(entering) == 2


def test_only_the_regulation_learns(parts, labelled_folder, tmp_path):
    given, before = parts(), parts()
    trained = train_regulation(labelled_folder(), tmp_path, TINY, **given)
    assert not any(module.training for module in trained.modules())
    assert torch.equal(weights(trained.base), weights(before["base"]))
    for name in ("detection", "segmentation", "saliency"):
        network = getattr(given["networks"], name)
        assert torch.equal(weights(network), weights(getattr(before["networks"], name)))
        assert all(parameter.grad is None for parameter in network.parameters())
    saved = load_file(tmp_path / "checkpoint.safetensors")
    assert {name.split("/")[0] for name in saved} == {"regulation", "average", "optimizer"}
    for name, value in trained.regulation.state_dict().items():
        assert torch.equal(value, saved[f"average/{name}"])
    assert not torch.equal(saved["average/adapter.0.weight"], saved["regulation/adapter.0.weight"])
    assert all(module.refinement[-1].weight.any() for module in trained.regulation.thermal)
    inputs = [torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))] * 2
    with torch.no_grad():
        text = torch.from_numpy(given["instructions"].centroids()["detection"])[None]
        assert not torch.allclose(trained(*inputs, text), trained.base(*inputs), atol=1e-6)


def test_the_log_has_a_curve_for_each_task(parts, labelled_folder, tmp_path):
    train_regulation(labelled_folder(), tmp_path, TINY, **parts())
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert {curve for step, curve, _ in rows if step == "6"} == set(TASKS)


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(parts, labelled_folder, tmp_path, monkeypatch):
    data = labelled_folder()
    whole = train_regulation(data, tmp_path / "whole", TINY, **parts())
    loss = regulation.task_loss
    taken = []

    def interrupted(*arguments, **options):
        if len(taken) == 3:  # after the checkpoint of step 2
            raise KeyboardInterrupt
        taken.append(arguments[0])
        return loss(*arguments, **options)

    monkeypatch.setattr(regulation, "task_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_regulation(data, tmp_path / "parts", TINY, **parts())
    assert taken == list(TINY.order[:3])
    monkeypatch.setattr(regulation, "task_loss", loss)
    resumed = train_regulation(data, tmp_path / "parts", TINY, **parts())
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-6, atol=1e-7)
    statistics = [
        torch.cat([module.running_var for module in network.regulation.modules() if isinstance(module, nn.BatchNorm2d)])
        for network in (whole, resumed)
    ]
    torch.testing.assert_close(*statistics, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        train_regulation(data, tmp_path / "parts", dataclasses.replace(TINY, seed=9), **parts())


def test_another_seed_gives_another_regulation(parts, labelled_folder, tmp_path):
    data, short = labelled_folder(), dataclasses.replace(TINY, steps=1)
    first, again, other = (
        weights(train_regulation(data, tmp_path / name, dataclasses.replace(short, seed=seed), **parts()).regulation)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_loss_that_is_not_finite_names_task_step_and_pairs(parts, labelled_folder, tmp_path, monkeypatch):
    loss = regulation.task_loss

    def spoilt(task, *arguments, **options):
        return loss(task, *arguments, **options) * (math.nan if task == "segmentation" else 1)

    monkeypatch.setattr(regulation, "task_loss", spoilt)
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 3, on street/[abc], street/[abc]; "):
        train_regulation(labelled_folder(), tmp_path, TINY, **parts())
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert all(value.isfinite().all() for value in kept.values())


def test_viewing_sees_unlabelled_sets_and_tasks_do_not(parts, labelled_folder, pair_folder, tmp_path, monkeypatch):
    data = labelled_folder(("a",))
    pair_folder(("x", "y", "z"), dataset="forest")
    loss, seen = regulation.task_loss, {}

    def noted(task, fused, batch, *rest, **options):
        seen.setdefault(task == "viewing", set()).update(batch.names)
        return loss(task, fused, batch, *rest, **options)

    monkeypatch.setattr(regulation, "task_loss", noted)
    config = dataclasses.replace(TINY, steps=10, windows=(WindowPhase(1.0, (64, 64), 8),))
    train_regulation(data, tmp_path, config, **parts())
    assert seen[False] == {"street/a"}
    assert seen[True] & {"forest/x", "forest/y", "forest/z"}


def test_a_labelled_set_that_is_not_there_is_named(parts, labelled_folder, tmp_path):
    with pytest.raises(ValueError, match=r"no pairs of harbour \(labelled\)"):
        train_regulation(labelled_folder(), tmp_path, dataclasses.replace(TINY, labelled="harbour"), **parts())
