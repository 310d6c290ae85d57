"""`irvf train` on a tiny folder: from images to a model folder, interrupted, resumed, and failing."""

import re

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from irvf.cli.__main__ import main
from irvf.image_fusion import image_fusion
from irvf.training import base, detector
from irvf.training.base import BaseTrainingConfig, CropPhase, train_base
from irvf.training.config import load_config
from irvf.training.detector import DetectorTrainingConfig, train_detector

TINY = BaseTrainingConfig(channels=4, blocks=1, steps=6, crops=(CropPhase(1.0, 16, 2),), save_every=2)
TINY_YAML = "channels: 4\nblocks: 1\nsteps: 600\nsave_every: 1\ncrops:\n- {until: 1.0, side: 16, batch: 2}\n"


def weights(network):
    return torch.cat([value.flatten().float() for value in network.state_dict().values()])


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
    output, config, data = tmp_path / "run", tmp_path / "tiny.yaml", pair_folder()
    config.write_text(TINY_YAML)
    train_base(data, output, load_config(BaseTrainingConfig, config, steps=2))
    before = (output / "checkpoint.safetensors").read_bytes()
    sample = base.sample_batch

    def spoilt(*arguments):
        thermal, luma, choices = sample(*arguments)
        return thermal * torch.nan, luma, choices

    monkeypatch.setattr(base, "sample_batch", spoilt)
    assert main(["train", "base", f"--data={data}", f"--config={config}", f"--output={output}"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"loss is nan at step 2, on [abc], [abc]; ", said)
    assert "checkpoint.safetensors" in said
    assert (output / "checkpoint.safetensors").read_bytes() == before
    assert not (output / "model").exists()


def test_a_run_of_another_configuration_is_not_resumed(pair_folder, tmp_path):
    data = pair_folder()
    train_base(data, tmp_path / "run", BaseTrainingConfig(**{**vars(TINY), "steps": 1}))
    with pytest.raises(ValueError, match=r"other settings \(channels\)"):
        train_base(data, tmp_path / "run", BaseTrainingConfig(**{**vars(TINY), "channels": 8}))


def test_holding_everything_back_is_refused(pair_folder, tmp_path):
    with pytest.raises(ValueError, match="is left to train on"):
        train_base(pair_folder(), tmp_path, BaseTrainingConfig(first_held={"street": "a"}))


def detector_config(**changes):
    return DetectorTrainingConfig(
        **{"dataset": "street", "fusions": ("max",), "steps": 3, "batch": 2, "side": 64, "save_every": 1, **changes}
    )


def test_a_resumed_detector_ends_where_an_uninterrupted_one_does(labelled_folder, tmp_path, monkeypatch):
    data, fusers, sample = labelled_folder(), [image_fusion("max", 1)], detector.sample_windows
    whole = train_detector(data, tmp_path / "whole", detector_config(), fusers)
    assert not whole.training

    def interrupted(scenes, config, step):
        if step == 2:
            raise KeyboardInterrupt
        return sample(scenes, config, step)

    monkeypatch.setattr(detector, "sample_windows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_detector(data, tmp_path / "run", detector_config(), fusers)
    monkeypatch.setattr(detector, "sample_windows", sample)
    torch.testing.assert_close(
        weights(train_detector(data, tmp_path / "run", detector_config(), fusers)), weights(whole)
    )
    again = train_detector(data, tmp_path / "run", detector_config(), fusers)  # nothing left to do
    torch.testing.assert_close(weights(again), weights(whole))
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 3
    with pytest.raises(ValueError, match=r"other settings \(mosaic_share\)"):
        train_detector(data, tmp_path / "run", detector_config(mosaic_share=0.9), fusers)


def test_a_loss_of_the_detector_that_is_not_finite_names_its_images(labelled_folder, tmp_path, monkeypatch):
    loss = detector.detection_loss
    monkeypatch.setattr(detector, "detection_loss", lambda *arguments: loss(*arguments) * torch.inf)
    config = detector_config(mosaic_share=1.0)
    with pytest.raises(
        FloatingPointError, match=r"detector: loss is inf at step 0, on ([abc], ){7}[abc]; no checkpoint"
    ):
        train_detector(labelled_folder(), tmp_path, config, [image_fusion("max", 1)])


def test_bad_label_files_stop_the_detector_before_it_starts(labelled_folder, tmp_path):
    data = labelled_folder()
    (data / "street" / "boxes_fusion" / "b.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    (data / "street" / "boxes_fusion" / "c.txt").write_text("a line\n")
    with pytest.raises(ValueError, match=r"2 pairs .*b\.txt:1: class 9 is unknown.*c\.txt:1: 'a line'"):
        train_detector(data, tmp_path / "run", detector_config(), [image_fusion("max", 1)])
    assert not (tmp_path / "run").exists()


def test_bad_pairs_stop_the_base_before_it_starts(pair_folder, tmp_path, capsys):
    data, output = pair_folder(), tmp_path / "run"
    command = ["train", "base", f"--data={data}", f"--output={output}"]
    (data / "street" / "rgb" / "a.png").write_bytes(b"no image")
    cv2.imwrite(str(data / "street" / "thermal" / "b.png"), np.zeros((20, 30), np.uint8))
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    for fault in ("2 pairs cannot be used", "a.png is not a readable image", "street/b: thermal is 30x20, RGB 64x48"):
        assert fault in said
    (data / "street" / "thermal" / "c.png").unlink()
    assert main(command) == 2
    assert "no partner of the same name: street/c" in capsys.readouterr().err
    assert not output.exists()


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


def test_a_run_can_start_from_the_weights_of_a_model_folder(exported, pair_folder, tmp_path):
    unchanged = {"channels": 4, "blocks": 2, "steps": 1, "seed": 7, "learning_rate": 0.0, "peak_learning_rate": 0.0}
    config = BaseTrainingConfig(**{**vars(TINY), **unchanged})
    data, start = pair_folder(), exported.root / "base" / "fusion.safetensors"
    end = train_base(data, tmp_path / "run", config, initial=start).state_dict()
    learned = [name for name in end if "running" not in name and "num_batches" not in name]
    stored = load_file(start)
    assert all(torch.equal(stored[name].float(), end[name]) for name in learned)
    with pytest.raises(ValueError, match="does not hold the weights"):
        train_base(data, tmp_path / "other", config, initial=exported.root / "base" / "config.yaml")
