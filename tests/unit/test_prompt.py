"""The prompt: equal to the unfolded linear chain in torch, from the right words, or a clear refusal."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from irvf.instruction.prompt import Prompter
from irvf.models import ModelError
from irvf.networks.task_regulation import TaskOrientedRegulation

WIDTH, HIDDEN, CHANNELS, MODULES = 24, 512, 8, 3
POOLED, KERNEL = 2 * CHANNELS, CHANNELS * CHANNELS * 9
AXES = dict(zip(("detection", "segmentation", "viewing"), np.eye(3, WIDTH, dtype=np.float32), strict=True))
TEXTS = {
    "viewing": AXES["viewing"],
    "detect people": 0.9 * AXES["detection"] + 0.1 * AXES["viewing"],
    "do not detect anything": 0.8 * AXES["detection"] + 0.3 * AXES["viewing"],
    "of nothing": np.full(WIDTH, -1, np.float32) / np.sqrt(WIDTH),
}


def encode(text):
    return (TEXTS[text] / np.linalg.norm(TEXTS[text])).astype(np.float32)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.predictor = nn.Sequential(nn.Linear(POOLED + HIDDEN, HIDDEN), nn.Linear(HIDDEN, KERNEL))
        self.average_convolution = nn.Conv2d(CHANNELS, CHANNELS, 3)  # which run time does not need


class Regulation(nn.Module):
    """The linear layers of T-OAR by their names, and the kernels as the paper computes them: not folded."""

    def __init__(self):
        super().__init__()
        self.adapter = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, HIDDEN))
        self.thermal = nn.ModuleList(Module() for _ in range(MODULES))
        self.luma = nn.ModuleList(Module() for _ in range(MODULES))

    def forward(self, embedding, pooled):
        text = self.adapter(embedding)
        return torch.stack([module.predictor(torch.cat([pooled, text])) for module in (*self.thermal, *self.luma)])


@pytest.fixture(scope="module")
def regulation():
    torch.manual_seed(0)
    return Regulation().requires_grad_(requires_grad=False)


def tensors(network, centroids=AXES):
    state = {f"regulation.{name}": value.half() for name, value in network.state_dict().items()}
    return state | {f"centroids.{name}": torch.from_numpy(0.7 * value).half() for name, value in centroids.items()}


@pytest.fixture
def stored(regulation, tmp_path):
    """Return a function that writes the tensors, changed or without some, and gives their file back."""

    def write(changes=(), *, without=(), centroids=AXES):
        kept = {name: value for name, value in tensors(regulation, centroids).items() if name not in without}
        save_file({**kept, **dict(changes)}, tmp_path / "fusion.safetensors")
        return tmp_path / "fusion.safetensors"

    return write


def expected(regulation, embedding):
    """B(text): the kernels of the chain where the image contributes nothing, in float64 from the stored weights."""
    network = Regulation().double()
    network.load_state_dict({name: value.half().double() for name, value in regulation.state_dict().items()})
    with torch.no_grad():
        return network(torch.from_numpy(np.asarray(embedding, np.float64)), torch.zeros(POOLED).double()).numpy()


def shared(text, task):
    """What stands for a text: mostly of its task's mean wording, as a direction, and one of its own."""
    mixed = 0.88 * AXES[task] + 0.12 * encode(text)
    return (mixed / np.linalg.norm(mixed)).astype(np.float32)


def test_the_prompt_is_what_the_linear_chain_makes_of_the_text(regulation, stored):
    prompt = Prompter(encode, stored())("detect people", "detection")
    assert (prompt.source, prompt.values.shape, prompt.values.dtype) == ("text", (2 * MODULES, KERNEL), np.float32)
    np.testing.assert_allclose(prompt.values, expected(regulation, shared("detect people", "detection")), atol=1e-6)


def test_image_and_prompt_add_up_to_the_kernel(regulation, stored):
    """The fold of OPEN-POINTS: kernel = A [gap; gmp] + B(text), with A from the chain's own columns."""
    network = Regulation()
    network.load_state_dict({name: value.half().float() for name, value in regulation.state_dict().items()})
    pooled = torch.rand(POOLED, generator=torch.Generator().manual_seed(1))
    prompt = Prompter(encode, stored())("detect people", "detection").values
    with torch.no_grad():
        kernels = network(torch.from_numpy(shared("detect people", "detection")), pooled).numpy()
        image = [
            (module.predictor[1].weight @ module.predictor[0].weight[:, :POOLED] @ pooled).numpy()
            for module in (*network.thermal, *network.luma)
        ]
    np.testing.assert_allclose(prompt + np.stack(image), kernels, atol=1e-5)


def test_the_network_that_is_trained_gives_the_same(tmp_path):
    torch.manual_seed(2)
    network = TaskOrientedRegulation(WIDTH)
    save_file(tensors(network, {}), tmp_path / "fusion.safetensors")
    values = Prompter(encode, tmp_path / "fusion.safetensors")("viewing", "viewing").values
    with torch.no_grad():
        trained = network.prompts(torch.from_numpy(encode("viewing"))[None])[0].numpy()
    np.testing.assert_allclose(values, trained, atol=1e-3)  # the weights are stored in half precision


def test_a_negation_takes_the_mean_wording_of_its_task(regulation, stored):
    prompt = Prompter(encode, stored())("do not detect anything", "viewing")
    assert prompt.source == "task"
    np.testing.assert_allclose(prompt.values, expected(regulation, 0.7 * AXES["viewing"]), atol=1e-4)


def test_nearness_is_an_angle(stored):
    """A centroid's length tells how alike the wordings are, not how near a text is."""
    longer = {**AXES, "viewing": 20 * AXES["viewing"]}
    assert Prompter(encode, stored(centroids=longer))("detect people", "detection").source == "text"


@pytest.mark.parametrize("text", list(TEXTS))
def test_a_task_of_the_users_own_takes_the_text(regulation, stored, text):
    prompt = Prompter(encode, stored())(text, "counting")
    assert prompt.source == "text"
    np.testing.assert_allclose(prompt.values, expected(regulation, encode(text)), atol=1e-6)


def test_without_centroids_every_text_speaks_for_itself(stored):
    assert Prompter(encode, stored(centroids={}))("do not detect anything", "viewing").source == "text"


def test_two_threads_get_what_one_gets(stored):
    prompter = Prompter(encode, stored())
    alone = {text: prompter(text, "viewing").values for text in TEXTS}
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda text: (text, prompter(text, "viewing").values), list(TEXTS) * 10))
    for text, values in together:
        np.testing.assert_array_equal(values, alone[text])


@pytest.mark.parametrize(
    "missing",
    [
        "regulation.adapter.1.bias",
        "regulation.thermal.1.predictor.0.weight",
        "regulation.luma.2.predictor.1.bias",
    ],
)
def test_a_missing_tensor_is_named(stored, missing):
    path = stored(without=[missing])
    with pytest.raises(ModelError, match=re.escape(f"{path} lacks {missing}")):
        Prompter(encode, path)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("regulation.adapter.0.weight", (HIDDEN, WIDTH, 1), "must have 2 dimensions"),
        ("regulation.adapter.0.bias", (3,), "has 3 numbers, 512 are wanted"),
        ("regulation.adapter.1.weight", (HIDDEN, 100), "adapter.1.weight takes 100 numbers, 512 are wanted"),
        ("regulation.luma.0.predictor.0.weight", (HIDDEN, HIDDEN), "luma.0.predictor.0 takes 512 numbers"),
        ("regulation.luma.0.predictor.1.weight", (KERNEL, 100), "takes 100 numbers, 512 are wanted"),
        ("centroids.viewing", (WIDTH + 1,), "centroids.viewing has 25 numbers, 24 are wanted"),
    ],
)
def test_a_tensor_of_another_shape_is_named(stored, name, shape, said):
    path = stored({name: torch.zeros(shape)})
    with pytest.raises(ModelError, match=re.escape(said)) as refused:
        Prompter(encode, path)
    assert str(path) in str(refused.value)


def test_modules_of_another_width_than_the_rest_are_refused(stored):
    narrow = {
        "regulation.luma.0.predictor.0.weight": torch.zeros(HIDDEN, 8 + HIDDEN),
        "regulation.luma.0.predictor.1.weight": torch.zeros(4 * 4 * 9, HIDDEN),
        "regulation.luma.0.predictor.1.bias": torch.zeros(4 * 4 * 9),
    }
    with pytest.raises(ModelError, match="modules of 576 and 144 numbers"):
        Prompter(encode, stored(narrow))


def test_numbers_that_are_not_finite_are_refused(stored):
    spoiled = torch.zeros(WIDTH)
    spoiled[2] = torch.nan
    with pytest.raises(ModelError, match=r"centroids\.viewing must have .* with 1 that are not finite"):
        Prompter(encode, stored({"centroids.viewing": spoiled}))


def test_weights_of_the_bare_base_network_are_refused(tmp_path):
    save_file({"base.head.weight": torch.zeros(2)}, tmp_path / "fusion.safetensors")
    with pytest.raises(ModelError, match="belongs to a network without prompts"):
        Prompter(encode, tmp_path / "fusion.safetensors")


def test_another_encoder_is_refused(stored):
    with pytest.raises(ModelError, match=r"width 24, the text encoder returns \[384\]"):
        Prompter(lambda _: np.zeros(384, np.float32), stored())


@pytest.mark.parametrize("content", [None, b"", b"no safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "fusion.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(str(path))):
        Prompter(encode, path)
