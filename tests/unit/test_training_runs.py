"""`irvf train` on a tiny folder: from images to a model folder, interrupted, resumed, and failing."""

import pytest
import torch
from safetensors.torch import load_file

from irvf.cli.__main__ import main
from irvf.models import load_model
from irvf.pipeline import image_fusion
from irvf.training import base
from irvf.training.base import BaseTrainingConfig, CropPhase, train_base
from irvf.training.detector import DetectorTrainingConfig, train_detector

TINY = BaseTrainingConfig(channels=4, blocks=1, steps=6, crops=(CropPhase(1.0, 16, 2),), save_every=2)
TINY_YAML = "channels: 4\nblocks: 1\nsteps: 600\nsave_every: 1\ncrops:\n- {until: 1.0, side: 16, batch: 2}\n"


def weights(network):
    return torch.cat([value.flatten().float() for value in network.state_dict().values()])


def test_the_command_makes_a_model_that_fuses(pair_folder, tmp_path, capsys, scene):
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY_YAML)
    data, output, model = pair_folder(), tmp_path / "run", tmp_path / "trained"
    arguments = [f"--data={data}", f"--config={config}", f"--output={output}", f"--model={model}", "--steps=2"]
    assert main(["train", "base", *arguments]) == 0
    assert str(model) in capsys.readouterr().out
    assert (output / "log.csv").read_text().splitlines()[-1].startswith("2,")
    assert load_model(str(model), "fusion").onnx.is_file()
    thermal, rgb = scene(50, 61)
    assert image_fusion(str(model))(thermal, rgb).shape == rgb.shape


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(pair_folder, tmp_path, monkeypatch):
    data = pair_folder()
    whole = train_base(data, tmp_path / "whole", TINY)

    def interrupted(pairs, config, step):
        if step == 5:  # after the checkpoint of step 4
            raise KeyboardInterrupt
        return sample(pairs, config, step)

    sample = base.sample_batch
    monkeypatch.setattr(base, "sample_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_base(data, tmp_path / "parts", TINY)
    monkeypatch.setattr(base, "sample_batch", sample)
    resumed = train_base(data, tmp_path / "parts", TINY)
    torch.testing.assert_close(weights(resumed), weights(whole))


def test_another_seed_gives_another_network(pair_folder, tmp_path):
    data = pair_folder()
    first, again, other = (
        weights(train_base(data, tmp_path / name, BaseTrainingConfig(**{**vars(TINY), "steps": 2, "seed": seed})))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, other)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(pair_folder, tmp_path, capsys, monkeypatch):
    output, config = tmp_path / "run", tmp_path / "tiny.yaml"
    config.write_text(TINY_YAML)
    command = ["train", "base", f"--data={pair_folder()}", f"--config={config}", f"--output={output}"]
    assert main([*command, "--steps=2", f"--model={tmp_path / 'first'}"]) == 0
    before = (output / "checkpoint.safetensors").read_bytes()
    sample = base.sample_batch
    monkeypatch.setattr(base, "sample_batch", lambda *arguments: [planes * torch.nan for planes in sample(*arguments)])
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "loss is nan at step 2" in said
    assert "checkpoint.safetensors" in said
    assert (output / "checkpoint.safetensors").read_bytes() == before
    assert not (output / "model").exists()


def test_a_run_of_another_configuration_is_not_resumed(pair_folder, tmp_path):
    data = pair_folder()
    train_base(data, tmp_path / "run", BaseTrainingConfig(**{**vars(TINY), "steps": 1}))
    with pytest.raises(ValueError, match=r"other settings \(channels\)"):
        train_base(data, tmp_path / "run", BaseTrainingConfig(**{**vars(TINY), "channels": 8}))


def test_holding_everything_back_is_refused(pair_folder, tmp_path):
    with pytest.raises(ValueError, match="none is left for training"):
        train_base(pair_folder(), tmp_path, BaseTrainingConfig(first_held={"street": "a"}))


@pytest.fixture
def labelled(pair_folder):
    data = pair_folder(("a", "b"))
    for name in ("a", "b"):
        file = data / "street" / "boxes_fusion" / f"{name}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("1 0.62 0.54 0.25 0.42\n")
    return data


def detector_config(**changes):
    return DetectorTrainingConfig(
        **{"dataset": "street", "fusions": ("max",), "steps": 2, "batch": 2, "side": 64, "save_every": 1, **changes}
    )


def test_the_detector_trains_and_resumes(labelled, tmp_path):
    fusers = [image_fusion("max")]
    whole = train_detector(labelled, tmp_path / "run", detector_config(), fusers)
    assert not whole.training
    again = train_detector(labelled, tmp_path / "run", detector_config(), fusers)  # nothing left to do
    assert torch.equal(weights(again), weights(whole))
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 2


def test_a_bad_label_file_stops_the_detector_before_it_starts(labelled, tmp_path):
    (labelled / "street" / "boxes_fusion" / "b.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"b\.txt:1: class 9 is unknown"):
        train_detector(labelled, tmp_path / "run", detector_config(), [image_fusion("max")])


def test_an_unusable_folder_is_one_line(tmp_path, capsys):
    assert main(["train", "base", "--data", str(tmp_path), "--output", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("irvf: no pairs under")


def test_a_run_with_other_data_or_settings_is_not_taken_for_this_one(pair_folder, tmp_path):
    data = pair_folder()
    train_base(data, tmp_path / "run", BaseTrainingConfig(**{**vars(TINY), "steps": 1}))
    with pytest.raises(ValueError, match=r"other settings \(brightness_weight\)"):
        train_base(data, tmp_path / "run", BaseTrainingConfig(**{**vars(TINY), "brightness_weight": 5.0}))
    first = min((data / "street" / "thermal").iterdir())
    first.unlink()
    next((data / "street" / "rgb").glob(f"{first.stem}.*")).unlink()
    with pytest.raises(ValueError, match=r"other settings \(pairs\)"):
        train_base(data, tmp_path / "run", TINY)


def test_a_run_can_start_from_the_weights_of_a_model_folder(pair_folder, tmp_path, capsys):
    config, first, second = tmp_path / "tiny.yaml", tmp_path / "first", tmp_path / "second"
    config.write_text(TINY_YAML.replace("save_every", "learning_rate: 0.0\npeak_learning_rate: 0.0\nsave_every"))
    command = ["train", "base", f"--data={pair_folder()}", f"--config={config}", "--steps=1"]
    assert main([*command, f"--output={first}"]) == 0
    weights_file = first / "model" / "fusion.safetensors"
    assert main([*command, f"--output={second}", "--seed=7", f"--init={weights_file}"]) == 0
    start, end = load_file(weights_file), load_file(second / "model" / "fusion.safetensors")
    learned = [name for name in start if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(start[name], end[name]) for name in learned)  # a learning rate of 0 keeps them
    assert main([*command, f"--output={tmp_path / 'third'}", f"--init={config}"]) == 2
    assert "does not hold the weights" in capsys.readouterr().err
