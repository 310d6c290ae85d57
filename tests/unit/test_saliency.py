"""Saliency: what a known network says of each pixel, as grey levels of the image's size, or a clear refusal."""

import numpy as np
import pytest

from irvf.engines.engine import EngineError
from irvf.engines.factory import create_engine
from irvf.models import load_model
from irvf.perception.saliency import SaliencyDetector


class Returning:
    """An engine whose network always returns the same array."""

    description = "a constant"

    def __init__(self, output, inputs=("image",), outputs=("saliency",)):
        self.output = output
        self.input_names = inputs
        self.output_names = outputs

    def infer(self, _inputs):
        return {"saliency": self.output}


@pytest.fixture(scope="module")
def detector(known_models):
    model = load_model(known_models.saliency, "saliency")
    return SaliencyDetector(create_engine("auto", model.onnx, 1), model.input_size)


@pytest.mark.parametrize("size", [(480, 640), (240, 320), (300, 300), (1080, 1920), (37, 51)])
def test_what_is_bright_is_salient_where_it_is(detector, size):
    image = np.zeros((*size, 3), np.uint8)
    top, bottom, left, right = size[0] // 4, 3 * size[0] // 4, size[1] // 2, 7 * size[1] // 8
    image[top:bottom, left:right] = (240, 120, 60)
    found = detector.detect(image)
    assert (found.dtype, found.shape) == (np.uint8, size)
    margin = max(1, round(8 * max(size[0] / 480, size[1] / 640)))
    inside = found[top + margin : bottom - margin, left + margin : right - margin]
    np.testing.assert_allclose(inside.astype(int), 140, atol=1)  # the mean of the colour
    outside = np.ones(size, bool)
    outside[max(0, top - margin) : bottom + margin, left - margin : right + margin] = False
    # Grey lies around an image of another aspect and may reach over its outermost pixels.
    outside[:margin] = outside[-margin:] = False
    outside[:, :margin] = outside[:, -margin:] = False
    assert found[outside].max() <= 1


def test_the_whole_range_is_used_and_what_is_beyond_it_is_cut():
    values = np.array([0, 0.5, 1, -0.3, 1.2, 0.2, 0.6, 0.8], np.float32)
    plane = np.repeat(np.repeat(values, 8)[None], 32, 0)[None, None]
    found = SaliencyDetector(Returning(plane), (32, 64)).detect(np.zeros((32, 64, 3), np.uint8))
    np.testing.assert_array_equal(found[5, 4::8], [0, 128, 255, 0, 255, 51, 153, 204])


@pytest.mark.parametrize("shape", [(1, 2, 16, 32), (1, 16, 32), (1, 1, 15, 32), (2, 1, 16, 32), (1, 1, 64, 128)])
def test_an_output_of_another_shape_is_refused(shape):
    detector = SaliencyDetector(Returning(np.zeros(shape, np.float32)), (32, 64))
    with pytest.raises(EngineError, match=r"saliency of shape.*must be \[1 x 1 x h x w\]"):
        detector.detect(np.zeros((32, 64, 3), np.uint8))


def test_numbers_that_are_none_are_refused():
    plane = np.full((1, 1, 16, 32), np.nan, np.float32)
    with pytest.raises(EngineError, match="512 of 512 numbers of the saliency network are NaN"):
        SaliencyDetector(Returning(plane), (32, 64)).detect(np.zeros((32, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "engine", "said"),
    [
        ((40, 64), {}, "multiples of 32"),
        ((32, 64), {"inputs": ("rgb",)}, "takes 'image'"),
        ((32, 64), {"outputs": ("logits",)}, "returns 'saliency'"),
    ],
)
def test_what_is_no_saliency_network_is_refused_at_once(size, engine, said):
    with pytest.raises(ValueError, match=said):
        SaliencyDetector(Returning(np.zeros((1, 1, 16, 32), np.float32), **engine), size)
