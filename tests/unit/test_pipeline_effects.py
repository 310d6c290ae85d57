"""Effects on the walk of a pair: what they change, where, and that what is found stays what it was.

The detector is one that always sees the same person and the same car.
"""

from itertools import pairwise

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from irvf.frames import Frame, FramePair
from irvf.instruction.grammar import load_grammar
from irvf.instruction.instruction import Effect, Instruction, Region
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.tasks import VIEWING
from irvf.pipeline import FusionPipeline, LiveConfig, PipelineConfig, read_instruction

SIZE = (128, 192)
LABELS = ("person", "bicycle", "car")
PERSON, CAR = (24, 32, 64, 96), (120, 64, 176, 104)
"""Corners x_min, y_min, x_max, y_max."""
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Path of a network that returns a person and a car: ``[1 x N x 6]``, corners, score, class."""
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0], rows[0, 1] = (*PERSON, 0.9, 0), (*CAR, 0.8, 2)
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["output0"], value=numpy_helper.from_array(rows))],
        "seeing",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, rows.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": repr(dict(enumerate(LABELS)))})
    path = tmp_path_factory.mktemp("seeing") / "detector.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


@pytest.fixture(scope="module")
def walk(detector, known_models):
    config = PipelineConfig("average", detector, known_models.segmentation, known_models.saliency, threads=1)
    return FusionPipeline(config)


@pytest.fixture(scope="module")
def without_heads():
    return FusionPipeline(PipelineConfig("average", "", "", "", threads=1))


def frames(stamp=0, size=SIZE):
    """Noise around grey, nothing black or white; the person red and the car blue, as the segmentation knows them."""
    rng = np.random.default_rng(0)
    thermal = rng.integers(90, 150, size, dtype=np.uint8)
    rgb = rng.integers(70, 120, (*size, 3), dtype=np.uint8)
    for (x_min, y_min, x_max, y_max), color in ((PERSON, (200, 40, 40)), (CAR, (40, 40, 200))):
        rgb[y_min:y_max, x_min:x_max] = color
    return FramePair(Frame(thermal, "mono8", stamp), Frame(rgb, "rgb8", stamp))


def changes(walk, text, task="viewing"):
    """Return by how many grey levels each pixel is brighter under a text than under a task alone, ``[H x W]``."""
    plain = walk.fuse(frames(), read_instruction(task)).fused.astype(int)
    return (walk.fuse(frames(), read_instruction(text)).fused.astype(int) - plain).mean(axis=2)


def middle(box):
    x_min, y_min, x_max, y_max = box
    x, y = (x_max - x_min) // 4, (y_max - y_min) // 4
    return slice(y_min + y, y_max - y), slice(x_min + x, x_max - x)


def around(*boxes):
    """Where nothing of these boxes can be, however soft their borders are."""
    away = np.ones(SIZE, bool)
    for x_min, y_min, x_max, y_max in boxes:
        x, y = (x_max - x_min) // 2, (y_max - y_min) // 2
        away[max(0, y_min - y) : y_max + y, max(0, x_min - x) : x_max + x] = False
    return away


@pytest.mark.parametrize(("text", "sign"), [("brighter", 1), ("darker", -1), ("much brighter", 1), ("much darker", -1)])
def test_an_effect_changes_the_whole_image(walk, text, sign):
    assert (sign * changes(walk, text) > 1).mean() > 0.95


def test_stronger_words_change_more(walk):
    slight, plain, strong = (changes(walk, text).mean() for text in ("a bit brighter", "brighter", "much brighter"))
    assert 0 < 1.5 * slight < plain < strong


@pytest.mark.parametrize(("text", "nearer"), [("much more thermal", "thermal"), ("much more visible", "luma")])
def test_more_of_a_camera_is_nearer_to_its_image(without_heads, text, nearer):
    pair = frames()
    planes = {"thermal": pair.thermal.image.astype(float), "luma": pair.rgb.image.mean(axis=2)}
    plain, changed = (without_heads.fuse(pair, read_instruction(said)).fused.mean(axis=2) for said in ("viewing", text))
    assert np.abs(changed - planes[nearer]).mean() < 0.8 * np.abs(plain - planes[nearer]).mean()


@pytest.mark.parametrize("size", [(128, 192), (37, 51), (16, 16)])
def test_every_effect_gives_an_image_and_changes_no_input(without_heads, size):
    pair = frames(size=size)
    before = pair.thermal.image.copy(), pair.rgb.image.copy()
    for text in ("more thermal", "more visible", "brighter", "darker", "more contrast", "less contrast", "less noise",
                 "sharper", "softer", "brighter left, darker sky and much sharper"):  # fmt: skip
        result = without_heads.fuse(pair, read_instruction(text))
        assert (result.fused.shape, result.fused.dtype) == ((*size, 3), np.uint8), text
        assert "effects" in result.stage_ms
    np.testing.assert_array_equal(pair.thermal.image, before[0])
    np.testing.assert_array_equal(pair.rgb.image, before[1])


def test_an_image_that_was_given_out_does_not_change_with_the_next(walk):
    texts = ("make the people brighter", "darken the car", "sharper and less noise", "viewing")
    given = [walk.fuse(frames(), read_instruction(text)).fused for text in texts]
    kept = [image.copy() for image in given]
    walk.fuse(frames(), read_instruction("much more thermal"))
    for image, copy in zip(given, kept, strict=True):
        np.testing.assert_array_equal(image, copy)
    assert all(not np.array_equal(first, second) for first, second in pairwise(kept))


def test_a_part_of_the_image_changes_alone(without_heads):
    change = changes(without_heads, "brighten the left half")
    assert (change[:, :80] > 1).mean() > 0.95
    np.testing.assert_array_equal(change[:, 120:], 0)


@pytest.mark.parametrize(("names", "box", "other"), [("people", PERSON, CAR), ("cars", CAR, PERSON)])
@pytest.mark.parametrize(("way", "sign"), [("brighter", 1), ("darker", -1)])
def test_objects_change_alone(walk, names, box, other, way, sign):
    change = changes(walk, f"make the {names} {way}")
    assert (sign * change[middle(box)] > 1).mean() > 0.95
    np.testing.assert_array_equal(change[around(box)], 0)
    np.testing.assert_array_equal(change[middle(other)], 0)


def test_everything_but_objects_changes(walk):
    change = changes(walk, "darken the background")
    assert (change[around(PERSON, CAR)] < -1).mean() > 0.95
    assert np.abs(change[middle(PERSON)]).max() <= 1
    assert np.abs(change[middle(CAR)]).max() <= 1
    change = changes(walk, "darken everything except the people")
    assert np.abs(change[middle(PERSON)]).max() <= 1
    assert (change[middle(CAR)] < -1).mean() > 0.9


def test_what_is_not_seen_changes_nothing(walk):
    np.testing.assert_array_equal(changes(walk, "make the bicycles much brighter"), 0)


def test_a_region_of_objects_runs_the_detector_and_publishes_nothing(walk):
    for text, runs in (("make the people brighter", True), ("brighten the left half", False), ("brighter", False)):
        result = walk.fuse(frames(), read_instruction(text))
        assert result.detections == ()
        assert ("detect" in result.stage_ms) == runs, text
        assert walk.outputs(read_instruction(text)) == ("image",)


@pytest.mark.parametrize(
    "effects", ["brighter", "make the people much darker", "much softer", "make the background a lot more thermal"]
)
@pytest.mark.parametrize("task", ["detection", "find the cars", "segment the scene", "segment the cars", "saliency"])
def test_what_is_found_is_the_same_with_and_without_effects(walk, task, effects):
    plain = walk.fuse(frames(), read_instruction(task))
    changed = walk.fuse(frames(), read_instruction(f"{task}, and then {effects}"))
    assert not np.array_equal(changed.fused, plain.fused)
    assert changed.detections == plain.detections
    for first, second in ((changed.segmentation, plain.segmentation), (changed.saliency, plain.saliency)):
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_array_equal(first, second)


def test_what_is_published_and_what_is_changed_may_be_of_other_classes(walk):
    result = walk.fuse(frames(), read_instruction("find the people and make the cars darker"))
    assert [detection.label for detection in result.detections] == ["person"]
    change = changes(walk, "find the people and make the cars darker", "find the people")
    assert (change[middle(CAR)] < -1).mean() > 0.95
    np.testing.assert_array_equal(change[middle(PERSON)], 0)


def test_a_segmentation_of_one_class_and_a_region_of_another(walk):
    text = "segment the cars and make the people brighter"
    result = walk.fuse(frames(), read_instruction(text))
    assert set(np.unique(result.segmentation)) == {0, 3}
    change = changes(walk, text, "segment the cars")
    assert (change[middle(PERSON)] > 1).mean() > 0.95
    np.testing.assert_array_equal(change[middle(CAR)], 0)


def test_a_region_is_there_at_once_where_boxes_are_carried(walk):
    walk.reconfigure(LiveConfig(detection_every=5))
    try:
        walk.fuse(frames(0), read_instruction("find the people"))
        walk.fuse(frames(SECOND // 30), read_instruction("find the people"))
        text = "find the people and make the cars darker"
        results = [walk.fuse(frames(number * SECOND // 30), read_instruction(text)) for number in (2, 3)]
        plain = walk.fuse(frames(4 * SECOND // 30), read_instruction("find the people")).fused.astype(int)
    finally:
        walk.reconfigure(LiveConfig())
    assert ["detect" in result.stage_ms for result in results] == [True, False]
    for result in results:
        assert [detection.label for detection in result.detections] == ["person"]
        assert (result.fused.astype(int) - plain)[middle(CAR)].mean() < -1


def effect_on(*objects):
    return (Effect("illumination", 0.5, Region("yard", objects=objects)),)


def test_a_region_that_cannot_be_found_is_said(walk, without_heads):
    assert walk.unseen_region(effect_on("person", "car")) == ""
    assert walk.unseen_region(effect_on()) == ""
    assert "does not know truck, so the region yard cannot be found" in walk.unseen_region(effect_on("car", "truck"))
    assert "the region yard needs a detector" in without_heads.unseen_region(effect_on("person"))
    zone = Region("left", zone=((0, 0), (0.5, 0), (0.5, 1)))
    assert without_heads.unseen_region((Effect("contrast", 0.5, zone), Effect("sharpness", 0.5))) == ""
    assert walk.known_classes["detection"] == LABELS
    assert "detection" not in without_heads.known_classes


def test_a_region_that_cannot_be_found_changes_nothing(without_heads):
    np.testing.assert_array_equal(changes(without_heads, "make the people brighter"), 0)


def test_many_effects_at_once_are_done_in_their_order(walk):
    text = "darker background, brighter people, sharper road, more contrast in the sky, less noise on the left"
    instruction = read_instruction(text)
    assert len(instruction.effects) == 5
    turned = Instruction(text, VIEWING, (), 1.0, 1, instruction.effects[::-1])
    change = changes(walk, text)
    assert change[middle(PERSON)].mean() > 1
    assert walk.fuse(frames(), turned).fused.shape == (*SIZE, 3)


def test_a_zone_of_a_users_own_is_where_its_corners_are(tmp_path, without_heads):
    path = tmp_path / "mine.yaml"
    path.write_text("regions: {gate: {phrases: [gate], zone: [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]]}}")
    read = Interpreter(load_grammar(path)).interpret("make the gate darker")
    plain = without_heads.fuse(frames(), read_instruction()).fused.astype(int)
    changed = without_heads.fuse(frames(), read.instruction(1, default=VIEWING)).fused
    change = (changed - plain).mean(axis=2)
    assert (change[80:, 112:] < -1).mean() > 0.95
    np.testing.assert_array_equal(change[:48], 0)
    np.testing.assert_array_equal(change[:, :80], 0)
