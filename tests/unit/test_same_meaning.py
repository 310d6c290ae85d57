"""The shipped fusions under sentences of one task and of several: what means the same looks the same."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from irvf.engines.factory import create_engine
from irvf.engines.fusion_network import FusionNetwork
from irvf.evaluation.sentences import load_sentences
from irvf.instruction.prompt import Prompter
from irvf.instruction.text_encoders import load_text_encoder
from irvf.models import load_model

TASKS = ("viewing", "detection", "segmentation", "saliency")
SENTENCES = load_sentences(Path(__file__).parents[1] / "sentences" / "tuning.yaml")
WORDINGS = {
    task: [each.text for each in SENTENCES if (each.language, each.category, each.task) == ("en", "task", task)][:6]
    for task in TASKS
}


@pytest.fixture(scope="module", params=["realtime", "irvf"])
def fuse(request, scene):
    """Return a function that fuses one scene under a text that means a task, in grey levels."""
    model = load_model(request.param, "fusion")
    network = FusionNetwork(create_engine("onnxruntime", model.onnx, threads=1), model.size_multiple)
    prompter = Prompter(load_text_encoder(model.text_encoder), model.weights)
    thermal, rgb = scene(96, 128)
    planes = thermal / np.float32(255), rgb.mean(axis=2, dtype=np.float32) / np.float32(255)
    return lambda text, task: network.under(prompter(text, task).values)(*planes) * 255


def difference(first, second):
    return float(np.abs(first - second).mean())


@pytest.mark.parametrize("task", TASKS)
def test_two_wordings_of_a_task_give_the_same_image(fuse, task):
    images = [fuse(text, task) for text in WORDINGS[task]]
    assert len(images) == 6
    differences = [difference(*pair) for pair in combinations(images, 2)]
    assert np.mean(differences) < 1
    assert max(differences) < 2


@pytest.mark.parametrize("task", TASKS[1:])
def test_an_image_to_be_looked_at_is_not_the_one_of_another_task(fuse, task):
    shown = {name: [fuse(text, name) for text in WORDINGS[name][:3]] for name in ("viewing", task)}
    assert min(difference(first, second) for first in shown["viewing"] for second in shown[task]) > 3
