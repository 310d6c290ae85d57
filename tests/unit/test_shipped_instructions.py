"""The shipped network under wordings that no training saw: the image must be that of the task."""

from itertools import combinations

import numpy as np
import pytest

from irvf.engines.factory import create_engine
from irvf.engines.fusion_network import FusionNetwork
from irvf.instruction.prompt import Prompter
from irvf.instruction.text_encoders import load_text_encoder
from irvf.models import load_model
from irvf.training.wordings import load_wordings

WORDINGS = load_wordings()


@pytest.fixture(scope="module")
def prompter():
    model = load_model("irvf", "fusion")
    return Prompter(load_text_encoder(model.text_encoder), model.weights)


@pytest.fixture(scope="module")
def fuse(scene):
    """Return a function that fuses one scene under a prompt, in grey levels."""
    network = FusionNetwork(create_engine("onnxruntime", load_model("irvf", "fusion").onnx, threads=1))
    thermal, rgb = scene(96, 128)
    planes = thermal / np.float32(255), rgb.mean(axis=2, dtype=np.float32) / np.float32(255)
    return lambda prompt: network.under(prompt.values)(*planes) * 255


@pytest.mark.parametrize("task", WORDINGS)
def test_a_wording_that_was_never_trained_on_gives_the_prompt_of_its_task(prompter, task):
    of_task = {name: prompter(name, name).values for name in WORDINGS}
    for text in WORDINGS[task].held_back:
        distances = {name: np.linalg.norm(prompter(text, task).values - values) for name, values in of_task.items()}
        assert min(distances, key=distances.get) == task, text


@pytest.mark.parametrize("task", WORDINGS)
def test_two_wordings_of_a_task_give_nearly_the_same_image(prompter, fuse, task):
    images = [fuse(prompter(text, task)) for text in WORDINGS[task].held_back[:4]]
    assert max(np.abs(first - second).mean() for first, second in combinations(images, 2)) < 2


@pytest.mark.parametrize("task", sorted(set(WORDINGS) - {"viewing"}))
def test_an_image_for_a_task_is_not_the_one_for_people(prompter, fuse, task):
    assert np.abs(fuse(prompter(task, task)) - fuse(prompter("viewing", "viewing"))).mean() > 3
