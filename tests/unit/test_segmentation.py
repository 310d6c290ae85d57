"""Segmentation: the class that a known network gives each pixel, at the pixels of the image, or a clear refusal."""

import time

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from irvf.engines.engine import EngineError
from irvf.engines.factory import create_engine
from irvf.models import load_model
from irvf.perception.letterbox import Letterbox
from irvf.perception.segmentation import Segmenter

COLORS = np.array([(20, 40, 30), (250, 10, 20), (10, 240, 20), (30, 20, 230)], np.uint8)
"""Of background, person, bicycle and car, as the known network sees them."""


class Returning:
    """An engine whose network always returns the same array."""

    def __init__(self, output, inputs=("image",), outputs=("logits",)):
        self.output = output
        self.input_names = inputs
        self.output_names = outputs
        self.description = "a constant"

    def infer(self, _inputs):
        return {"logits": self.output}


@pytest.fixture(scope="module")
def segmenter(known_models):
    model = load_model(known_models.segmentation, "segmentation")
    return Segmenter(create_engine("auto", model.onnx, 1), model.labels, model.input_size)


def painted(height, width):
    """Classes in blocks, and the image of their colours."""
    classes = np.zeros((height, width), np.uint8)
    classes[: height // 2, width // 2 :] = 1
    classes[height // 2 :, : width // 3] = 2
    classes[height // 2 :, width // 3 :] = 3
    return classes, COLORS[classes]


def test_each_pixel_has_the_class_of_its_colour(segmenter):
    classes, image = painted(480, 640)
    found = segmenter.segment(image)
    assert (found.dtype, found.shape) == (np.uint8, (480, 640))
    # The network works at half of the resolution; the blocks begin at odd columns.
    inside = cv2.erode((classes == found).astype(np.uint8), np.ones((5, 5), np.uint8))
    assert np.array_equal(found[100:140, 400:600], classes[100:140, 400:600])
    assert (classes == found).mean() > 0.995
    assert inside.mean() > 0.98


@pytest.mark.parametrize("size", [(240, 320), (37, 51), (720, 1280), (1080, 1920), (200, 101), (481, 639)])
def test_images_of_any_size_keep_their_borders_where_they_are(segmenter, size):
    classes, image = painted(*size)
    found = segmenter.segment(image)
    assert found.shape == size
    # Off by less than a pixel and a half of the coarser of image and logits.
    reach = int(np.ceil(1.5 * max(1.0, 2 * max(size[0] / 480, size[1] / 640))))
    same = cv2.dilate(classes, np.ones((2 * reach + 1,) * 2)) == cv2.erode(classes, np.ones((2 * reach + 1,) * 2))
    np.testing.assert_array_equal(found[same], classes[same])
    assert same.mean() > 0.7


def test_only_the_classes_asked_for_are_kept(segmenter):
    classes, image = painted(480, 640)
    everything = segmenter.segment(image)
    people = segmenter.segment(image, ("person",))
    np.testing.assert_array_equal(people, np.where(everything == 1, 1, 0))
    both = segmenter.segment(image, ("car", "person"))
    np.testing.assert_array_equal(both, np.where(np.isin(everything, (1, 3)), everything, 0))
    with pytest.raises(ValueError, match="does not know dog; it knows background, person, bicycle, car"):
        segmenter.segment(image, ("dog",))
    assert set(np.unique(classes)) == set(np.unique(everything))


def test_the_border_runs_where_the_logits_cross_and_not_along_their_pixels():
    """Two linear logits that cross at x = 30.25 of the input: found to a pixel, though each logit spans four."""
    centers = (np.arange(16) + 0.5) * 4
    plane = np.broadcast_to(centers.astype(np.float32), (8, 16))
    logits = np.stack((np.full((8, 16), 30.25, np.float32), plane))[None]
    found = Segmenter(Returning(logits), ("background", "person"), (32, 64)).segment(np.zeros((32, 64, 3), np.uint8))
    # Pixel x has its centre at x + 0.5: the first one beyond 30.25 is pixel 30.
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(64) >= 30, (32, 64)))


@pytest.mark.parametrize(
    ("image_size", "input_size"), [((100, 70), (96, 128)), ((48, 64), (96, 128)), ((33, 200), (64, 96))]
)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_planes_come_back_to_the_pixels_of_the_image(image_size, input_size, stride):
    """A plane that holds its own coordinates in the input: bilinear interpolation must give each pixel its own."""
    letterbox = Letterbox.fit(image_size, input_size)
    rows, columns = ((np.arange(side // stride, dtype=np.float32) + 0.5) * stride for side in input_size)
    for axis, plane in ((0, np.repeat(rows[:, None], len(columns), 1)), (1, np.repeat(columns[None], len(rows), 0))):
        found = letterbox.undo_plane(plane)
        assert found.shape == image_size
        scale = letterbox.content_size[axis] / image_size[axis]
        wanted = letterbox.offset[axis] + (np.arange(image_size[axis]) + 0.5) * scale
        # Nothing can be interpolated between the outermost centres and the edge.
        wanted = np.clip(wanted, stride / 2, input_size[axis] - stride / 2)
        wanted = np.broadcast_to(wanted[:, None] if axis == 0 else wanted, image_size)
        np.testing.assert_allclose(found, wanted, atol=stride / 32 + 1e-3)  # OpenCV's coordinates are 32nds of a pixel


@pytest.mark.parametrize(
    "shape",
    [
        (1, 3, 16, 32),
        (1, 5, 16, 32),
        (2, 4, 16, 32),
        (4, 16, 32),
        (1, 4, 15, 32),
        (1, 4, 0, 32),
        (1, 4, 64, 64),
        (1, 4),
    ],
)
def test_an_output_of_another_shape_is_refused(shape):
    segmenter = Segmenter(Returning(np.zeros(shape, np.float32)), ("a", "b", "c", "d"), (32, 64))
    with pytest.raises(EngineError, match=r"must be \[1 x 4 x h x w\].*32 and 64") as raised:
        segmenter.segment(np.zeros((32, 64, 3), np.uint8))
    assert str(list(shape)) in str(raised.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad):
    logits = np.zeros((1, 2, 16, 32), np.float32)
    logits[0, 1, 3, 4] = bad
    segmenter = Segmenter(Returning(logits), ("background", "person"), (32, 64))
    with pytest.raises(EngineError, match="1 of 1024 numbers of the segmentation network are NaN or infinite"):
        segmenter.segment(np.zeros((32, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("labels", "size", "engine", "said"),
    [
        (("background",), (32, 64), {}, "2 to 255 classes"),
        (tuple(map(str, range(256))), (32, 64), {}, "2 to 255 classes"),
        (("background", "person"), (33, 64), {}, "multiples of 32"),
        (("background", "person"), (0, 64), {}, "multiples of 32"),
        (("background", "person"), (32, 64), {"inputs": ("thermal", "luma")}, "takes 'image'"),
        (("background", "person"), (32, 64), {"outputs": ("predictions",)}, "returns 'logits'"),
    ],
)
def test_what_is_no_segmentation_is_refused_at_once(labels, size, engine, said):
    with pytest.raises(ValueError, match=said):
        Segmenter(Returning(np.zeros((1, 2, 16, 32), np.float32), **engine), labels, size)


def test_a_network_that_fails_says_so(tmp_path, segmenter):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["logits"])],
        "for another size",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, 64, 64])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "small.onnx").write_bytes(model.SerializeToString())
    other = Segmenter(create_engine("auto", tmp_path / "small.onnx", 1), segmenter.labels, (96, 64))
    with pytest.raises(EngineError, match="image"):
        other.segment(np.zeros((96, 64, 3), np.uint8))


def test_what_is_around_the_network_takes_a_few_milliseconds():
    rng = np.random.default_rng(0)
    segmenter = Segmenter(
        Returning(rng.random((1, 4, 240, 320), np.float32)), ("background", "a", "b", "c"), (480, 640)
    )
    image = rng.integers(0, 256, (480, 640, 3), np.uint8)
    durations = []
    for _ in range(20):
        started = time.perf_counter()
        segmenter.segment(image)
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.03  # 7 ms on one core; this is what a loaded one takes
