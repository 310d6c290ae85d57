"""Configuration files of the trainings: what is taken, and that what is wrong is named."""

import dataclasses
from pathlib import Path

import pytest

from irvf.training.base import BaseTrainingConfig, CropPhase
from irvf.training.config import load_config
from irvf.training.pair_windows import WindowPhase
from irvf.training.realtime import RealtimeTrainingConfig
from irvf.training.regulation import RegulationTrainingConfig
from irvf.training.scenes import Annotation
from irvf.training.task_networks import TasksTrainingConfig

SHIPPED = Path(__file__).parents[2] / "config" / "training"


@pytest.fixture
def load(tmp_path):
    def load_text(text, kind=BaseTrainingConfig, **overrides):
        file = tmp_path / "training.yaml"
        file.write_text(text, "utf-8")
        return load_config(kind, file, **overrides)

    return load_text


def test_no_file_gives_the_defaults():
    assert load_config(BaseTrainingConfig, None) == BaseTrainingConfig()


def test_an_empty_file_gives_the_defaults(load):
    assert load("# nothing\n") == BaseTrainingConfig()


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(load):
    config = load("steps: 10\nseed: 3\n", steps=20, seed=None)
    assert (config.steps, config.seed, config.blocks) == (20, 3, BaseTrainingConfig().blocks)


def test_nested_crops_and_whole_numbers_for_floats(load):
    config = load("crops:\n- {until: 1, side: 64, batch: 2}\nlearning_rate: 1\nscales: [1, 2]\n")
    assert config.crops == (CropPhase(1.0, 64, 2),)
    assert all(isinstance(value, float) for value in (config.learning_rate, *config.scales, config.crops[0].until))


def test_lists_and_mappings(load):
    config = load("datasets: [a, b]\nfirst_held: {a: '007'}\n")
    assert config.datasets == ("a", "b")
    assert config.first_held == {"a": "007"}


def test_nested_sections_and_windows(load):
    config = load(
        "windows:\n- {until: 1, size: [64, 96], batch: 2}\nannotation: {labels: [cat]}\n", RegulationTrainingConfig
    )
    assert config.windows == (WindowPhase(1.0, (64, 96), 2),)
    assert config.annotation == Annotation(labels=("cat",))
    tasks = load("saliency: {steps: 7}\n", TasksTrainingConfig)
    assert tasks.saliency.steps == 7
    assert tasks.segmentation == TasksTrainingConfig().segmentation


SHIPPED_FILES = {
    "base": BaseTrainingConfig,
    "regulation": RegulationTrainingConfig,
    "ablation/model_1_base": BaseTrainingConfig,
    "realtime": RealtimeTrainingConfig,
    "ablation/model_1": RegulationTrainingConfig,
    "ablation/model_2": RegulationTrainingConfig,
    "ablation/model_3": BaseTrainingConfig,
    "ablation/model_4": RegulationTrainingConfig,
    "ablation/model_5": RegulationTrainingConfig,
    "ablation/model_6": RegulationTrainingConfig,
}


@pytest.mark.parametrize(("name", "kind"), SHIPPED_FILES.items())
def test_the_shipped_files_load_and_hold_the_same_block_back(name, kind):
    config = load_config(kind, SHIPPED / f"{name}.yaml")
    assert config.first_held == {"msrs": "01298N", "roadscene": "FLIR_08914"}
    assert set(config.first_held) <= set(config.datasets)


def test_the_shipped_task_networks_hold_the_same_block_back():
    config = load_config(TasksTrainingConfig, SHIPPED / "tasks.yaml")
    for task in (config.detection, config.segmentation, config.saliency):
        assert task.first_held == {"msrs": "01298N"}


def test_every_shipped_file_is_tested():
    found = {path.relative_to(SHIPPED).with_suffix("").as_posix() for path in SHIPPED.rglob("*.yaml")}
    assert found == {*SHIPPED_FILES, "tasks"}


def test_every_ablation_changes_one_thing():
    full = load_config(RegulationTrainingConfig, SHIPPED / "regulation.yaml")
    expected = {
        "1": {"base": "runs/model_1_base/model", "feature_fusion": False},
        "2": {"injection": "none"},
        "4": {"injection": "added"},
        "5": {"injection": "concatenated"},
        "6": {"injection": "text_only"},
    }
    for model, changes in expected.items():
        config = load_config(RegulationTrainingConfig, SHIPPED / "ablation" / f"model_{model}.yaml")
        assert config == dataclasses.replace(full, **changes)
    base = load_config(BaseTrainingConfig, SHIPPED / "base.yaml")
    assert load_config(BaseTrainingConfig, SHIPPED / "ablation" / "model_3.yaml") == base
    without = load_config(BaseTrainingConfig, SHIPPED / "ablation" / "model_1_base.yaml")
    assert without == dataclasses.replace(base, feature_fusion=False)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepps: 10", "stepps"),
        ("3: 10\nsteps: 5", "3"),
        ("steps: many", "steps"),
        ("steps: 1.5", "steps"),
        ("steps: true", "steps"),
        ("steps:", "steps"),
        ("learning_rate: fast", "learning_rate"),
        ("learning_rate: true", "learning_rate"),
        ("datasets: street", "datasets"),
        ("datasets: [1]", "datasets"),
        ("scales: [0.5]", "scales"),
        ("scales: [0.5, wide]", "scales"),
        ("first_held: {a: 7}", "first_held"),
        ("first_held: [a]", "first_held"),
        ("crops: 3", "crops"),
        ("crops: [3]", "3"),
        ("crops:\n- {until: 1.0, side: 64, size: 2}", "size"),
        ("crops:\n- {until: 1.0, side: 64}", "batch"),
        ("crops:\n- {until: 1.0, side: big, batch: 2}", "side"),
        ("- steps", "mapping"),
        ("steps: [", "YAML"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(load, text, named):
    with pytest.raises(ValueError, match=rf"training\.yaml.*{named}") as raised:
        load(text)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"missing\.yaml"):
        load_config(BaseTrainingConfig, tmp_path / "missing.yaml")
