"""The walk of one pair, with every fusion: what a user sees in the image that comes out."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from irvf.engines.engine import EngineError
from irvf.frames import Frame, FramePair
from irvf.image_fusion import image_fusion
from irvf.imaging.errors import FrameError
from irvf.instruction.grammar import load_grammar
from irvf.models import ModelError, load_model
from irvf.pipeline import FusionPipeline, LiveConfig, PipelineConfig, read_instruction

FUSIONS = ["max", "average", "laplacian", "irvf"]
THERMAL_SHARES = {"detection": 1.0, "segmentation": 0.75, "saliency": 0.5, "viewing": 0.0}
"""What the known fusion takes of the thermal plane under each task."""
STAGES = ["decode", "thermal range", "register", "fuse", "color", "detect"]


instruct = read_instruction


def pair(thermal, rgb):
    encoding = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16"}[thermal.dtype]
    return FramePair(Frame(thermal, encoding), Frame(rgb, "rgb8"))


def pipeline(model="max", detector="", live=None, segmentation="", saliency=""):
    return FusionPipeline(PipelineConfig(model, detector, segmentation, saliency, threads=1), live)


@pytest.fixture(scope="module")
def detecting():
    return pipeline("average", "detector")


@pytest.fixture(scope="module")
def complete(known_models):
    """A pipeline with every head, and a fusion that mixes thermal and luma as the prompt says."""
    return pipeline(known_models.fusion, "detector", None, known_models.segmentation, known_models.saliency)


@pytest.mark.parametrize("model", FUSIONS)
@pytest.mark.parametrize("size", [(48, 64), (37, 51)])
def test_every_fusion_gives_an_image_of_the_rgb_size(model, size, scene):
    thermal, rgb = scene(*size)
    before = thermal.copy(), rgb.copy()
    walk = pipeline(model)
    walk.warm_up()
    result = walk.fuse(pair(thermal, rgb), instruct())
    assert result.fused.shape == rgb.shape
    assert result.fused.dtype == np.uint8
    assert result.detections == ()
    np.testing.assert_array_equal(thermal, before[0])
    np.testing.assert_array_equal(rgb, before[1])


def test_max_shows_what_is_warm_and_what_is_bright(scene):
    thermal, rgb = scene()
    grey = np.repeat(rgb.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    fused = pipeline("max").fuse(pair(thermal, grey), instruct()).fused
    expected = np.maximum(thermal[..., None], grey)
    np.testing.assert_allclose(fused.astype(int), expected, atol=1)


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (30, 64)])
def test_a_thermal_image_of_another_size_fills_the_rgb_image(size, scene):
    thermal, rgb = scene()
    resized = cv2.resize(thermal, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    fused = pipeline("max").fuse(pair(resized, rgb), instruct()).fused
    same = pipeline("max").fuse(pair(thermal, rgb), instruct()).fused
    assert fused.shape == rgb.shape
    assert np.abs(fused.astype(int) - same).mean() < 8


def test_sixteen_bits_are_stretched_to_what_the_scene_holds(scene):
    thermal, rgb = scene()
    counts = 30_000 + 10 * thermal.astype(np.uint16)
    fused = pipeline("max").fuse(pair(counts, np.zeros_like(rgb)), instruct()).fused
    assert fused[thermal > 200].min() > 240
    assert fused[thermal < 60].max() < 60


@pytest.mark.parametrize("model", FUSIONS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_grey_stays_grey(model, scale, scene):
    thermal, rgb = scene()
    grey = np.repeat(rgb.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    fused = pipeline(model, live=LiveConfig(processing_scale=scale)).fuse(pair(thermal, grey), instruct()).fused
    assert np.ptp(fused.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("model", FUSIONS)
def test_colours_keep_their_hue(model):
    # Nothing is near black or white, so that no channel is cut off: differences of channels must stay.
    rng = np.random.default_rng(0)
    rgb = np.full((48, 64, 3), (130, 100, 115), np.uint8)
    rgb[:, 32:] = (105, 125, 118)
    thermal = rng.integers(90, 160, (48, 64), dtype=np.uint8)
    fused = pipeline(model).fuse(pair(thermal, rgb), instruct()).fused
    uncut = (fused.min(2) > 0) & (fused.max(2) < 255)
    for first, second in ((0, 1), (1, 2)):
        wanted = rgb[..., first].astype(int) - rgb[..., second]
        found = fused[..., first].astype(int) - fused[..., second]
        assert np.abs(found - wanted)[uncut].max(initial=0) <= 4
    assert uncut.mean() > 0.9 or model == "irvf"


@pytest.mark.parametrize("model", FUSIONS)
def test_where_thermal_does_not_reach_the_rgb_image_is_shown(model, scene):
    thermal, rgb = scene()
    shifted = LiveConfig(registration="homography", homography=(1.0, 0, 16, 0, 1, 0, 0, 0, 1))
    fused = pipeline(model, live=shifted).fuse(pair(thermal, rgb), instruct()).fused
    np.testing.assert_allclose(fused[:, :16].astype(int), rgb[:, :16], atol=2)
    assert np.abs(fused[:, 48:].astype(int) - rgb[:, 48:]).max() > 10


def test_a_homography_puts_warm_things_where_they_are(scene):
    thermal, rgb = scene()
    doubled = LiveConfig(registration="homography", homography=(2.0, 0, 0.5, 0, 2, 0.5, 0, 0, 1))
    small = cv2.resize(thermal, (32, 24), interpolation=cv2.INTER_AREA)
    fused = pipeline("max", live=doubled).fuse(pair(small, np.zeros_like(rgb)), instruct()).fused[..., 0]
    inside, outside = np.zeros_like(thermal), np.ones_like(thermal)
    inside[18:34, 34:46] = 1
    outside[14:38, 30:50] = 0
    assert fused[inside > 0].min() > 180
    assert fused[outside > 0].max() < 80


@pytest.mark.parametrize("which", ["thermal", "rgb"])
def test_an_image_that_is_too_small_is_refused_and_the_next_pair_is_fused(which, scene):
    thermal, rgb = scene()
    walk = pipeline("irvf")
    bad = pair(thermal[:15], rgb) if which == "thermal" else pair(thermal, rgb[:, :15])
    with pytest.raises(FrameError, match="at least 16 a side") as raised:
        walk.fuse(bad, instruct())
    assert raised.value.reason == "size"
    assert walk.fuse(pair(thermal, rgb), instruct()).fused.shape == rgb.shape


def test_a_wrong_encoding_is_refused(scene):
    thermal, rgb = scene()
    with pytest.raises(FrameError) as raised:
        pipeline().fuse(FramePair(Frame(thermal, "jpeg"), Frame(rgb, "rgb8")), instruct())
    assert raised.value.reason == "encoding"


def test_every_stage_is_timed_in_its_order(detecting, scene):
    started = time.perf_counter()
    result = detecting.fuse(pair(*scene()), instruct("detection"))
    elapsed = (time.perf_counter() - started) * 1e3
    assert list(result.stage_ms) == STAGES
    assert all(duration >= 0 for duration in result.stage_ms.values())
    assert 0 < sum(result.stage_ms.values()) <= elapsed
    assert result.stage_ms["detect"] > 0.5  # a network ran
    assert list(detecting.fuse(pair(*scene()), instruct("viewing")).stage_ms) == STAGES[:-1]


def test_settings_change_from_the_next_pair_on(detecting, scene):
    frames = pair(*scene())
    detecting.reconfigure(LiveConfig(score_threshold=1e-6))
    unsure = detecting.fuse(frames, instruct("detection"))
    detecting.reconfigure(LiveConfig(score_threshold=1.0))
    assert unsure.detections
    assert not detecting.fuse(frames, instruct("detection")).detections
    detecting.reconfigure(LiveConfig(registration="homography", homography=(1.0, 0, 32, 0, 1, 0, 0, 0, 1)))
    assert not np.array_equal(detecting.fuse(frames, instruct()).fused, unsure.fused)


@pytest.mark.parametrize(
    "live",
    [
        {"processing_scale": 0.0},
        {"processing_scale": 1.5},
        {"processing_scale": float("nan")},
        {"score_threshold": 2.0},
        {"iou_threshold": -1.0},
        {"registration": "magic"},
        {"registration": "homography", "homography": (0.0,) * 9},
    ],
)
def test_settings_out_of_range_are_refused_and_the_old_ones_stay(live, scene):
    walk, frames = pipeline(), pair(*scene())
    before = walk.fuse(frames, instruct()).fused
    with pytest.raises(ValueError, match=list(live)[-1].split("_")[0]):
        walk.reconfigure(LiveConfig(**live))
    np.testing.assert_array_equal(walk.fuse(frames, instruct()).fused, before)


def test_only_a_task_that_detects_gets_detections(detecting, scene):
    detecting.reconfigure(LiveConfig(score_threshold=1e-6))
    frames = pair(*scene())
    assert detecting.fuse(frames, instruct("viewing")).detections == ()
    cars = detecting.fuse(frames, instruct("find cars")).detections
    assert {detection.label for detection in cars} <= {"car"}
    for detection in detecting.fuse(frames, instruct("detection")).detections:
        box = detection.box
        assert 0 <= box.x_min < box.x_max <= 64
        assert 0 <= box.y_min < box.y_max <= 48


def test_what_a_task_gets_is_said():
    with_detector, without = pipeline("max", "detector"), pipeline()
    assert with_detector.unknown_classes(instruct("detection").task, ("car",)) == ""
    assert "does not know dog; it knows person, bicycle, car" in with_detector.unknown_classes(
        instruct("detection").task, ("car", "dog")
    )
    assert without.unknown_classes(instruct("detection").task, ("dog",)) == ""
    assert with_detector.unknown_classes(instruct("viewing").task, ("dog",)) == ""
    assert with_detector.outputs(instruct("detection")) == ("image", "detections")
    assert without.outputs(instruct("detection")) == ("image",)
    assert with_detector.missing_heads(instruct("detection").task) == ()
    assert without.missing_heads(instruct("detection").task) == ("detection",)
    assert with_detector.missing_heads(instruct("segmentation").task) == ("segmentation",)


def test_every_task_gets_its_own(complete, scene):
    complete.reconfigure(LiveConfig(score_threshold=1e-6))
    frames = pair(*scene())
    found = {}
    for text, head, outputs in (
        ("detection", "detect", ("image", "detections")),
        ("segmentation", "segment", ("image", "segmentation")),
        ("saliency", "saliency", ("image", "saliency")),
        ("viewing", None, ("image",)),
    ):
        result = complete.fuse(frames, instruct(text))
        assert list(result.stage_ms) == STAGES[:-1] + [head] * (head is not None)
        assert complete.outputs(instruct(text)) == outputs
        assert complete.missing_heads(instruct(text).task) == ()
        found[text] = (bool(result.detections), result.segmentation is not None, result.saliency is not None)
    assert found == {
        "detection": (True, False, False),
        "segmentation": (False, True, False),
        "saliency": (False, False, True),
        "viewing": (False, False, False),
    }


def test_segmentation_and_saliency_are_those_of_the_fused_image(complete):
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[60:120, 80:160] = (250, 20, 20)  # red: a person to the known network
    rgb[60:120, 200:280] = (20, 20, 250)  # blue: a car
    warm = pair(np.full((240, 320), 110, np.uint8), rgb)
    both = complete.fuse(warm, instruct("segment"))
    brightest = np.where(both.fused.max(axis=2) > 127, both.fused.argmax(axis=2) + 1, 0)
    assert set(np.unique(brightest)) == {0, 1, 3}
    uniform = cv2.blur(brightest.astype(np.float32), (5, 5)) == brightest
    np.testing.assert_array_equal(both.segmentation[uniform], brightest[uniform])
    assert (both.segmentation.shape, both.segmentation.dtype) == ((240, 320), np.uint8)
    people = complete.fuse(warm, instruct("segment the people only")).segmentation
    np.testing.assert_array_equal(people, np.where(both.segmentation == 1, 1, 0))
    salient = complete.fuse(warm, instruct("saliency"))
    wanted = cv2.blur(salient.fused.mean(axis=2), (4, 4))[80:100, 100:140]
    np.testing.assert_allclose(salient.saliency[80:100, 100:140], wanted, atol=1.5)
    assert complete.segmentation_labels == ("background", "person", "bicycle", "car")


@pytest.mark.parametrize(("task", "share"), THERMAL_SHARES.items())
def test_the_instruction_shapes_the_fused_image(complete, task, share):
    thermal, grey = np.full((48, 64), 200, np.uint8), np.full((48, 64, 3), 40, np.uint8)
    fused = complete.fuse(pair(thermal, grey), instruct(task)).fused
    np.testing.assert_allclose(fused.astype(int), 40 + share * 160, atol=1)


def test_a_negation_is_fused_as_its_task_and_not_as_its_words(complete):
    # "detect" is what the words are nearest to, viewing is what they mean.
    instruction = instruct("do not detect anything")
    assert (instruction.task.name, complete.prompt(instruction).source) == ("viewing", "task")
    assert complete.prompt(instruct("viewing")).source == "text"
    thermal, grey = np.full((48, 64), 200, np.uint8), np.full((48, 64, 3), 40, np.uint8)
    np.testing.assert_allclose(complete.fuse(pair(thermal, grey), instruction).fused.astype(int), 40, atol=1)


def test_a_prompt_is_made_before_the_frame_and_once(complete, known_models, scene):
    walk, instruction, frames = pipeline(known_models.fusion), instruct("detect"), pair(*scene())
    prompt = walk.prompt(instruction)
    assert walk.prompt(instruction) is prompt
    expected = walk.fuse(frames, instruction).fused
    assert walk.prompt(instruct("detect")) is prompt  # the same words under another number
    np.testing.assert_array_equal(complete.fuse(frames, instruction).fused, expected)
    assert pipeline("max").prompt(instruction) is None
    assert pipeline(known_models.base).prompt(instruction) is None


def test_what_has_a_head_needs_its_model(known_models):
    assert pipeline(saliency=known_models.saliency).missing_heads(instruct("saliency").task) == ()
    for wrong in ({"segmentation": "no such"}, {"saliency": "no such"}, {"segmentation": known_models.saliency}):
        with pytest.raises(ModelError):
            pipeline(**wrong)


def test_the_shipped_models_do_all_tasks(scene):
    walk = FusionPipeline(PipelineConfig(threads=1), LiveConfig(score_threshold=1e-6))
    walk.warm_up()
    thermal, rgb = scene(120, 160)
    for name, task in load_grammar().tasks.items():
        result = walk.fuse(pair(thermal, rgb), instruct(name))
        assert walk.missing_heads(task) == ()
        assert (result.segmentation is not None) == ("segmentation" in task.heads)
        assert (result.saliency is not None) == ("saliency" in task.heads)
        assert bool(result.detections) == ("detection" in task.heads)


def test_the_shipped_fusion_sees_the_instruction(scene):
    thermal, rgb = scene(120, 160)
    fused = {text: image_fusion("irvf", 1, text)(thermal, rgb) for text in ("detection", "viewing")}
    assert not np.array_equal(fused["detection"], fused["viewing"])
    with pytest.raises(ValueError, match="not understood"):
        image_fusion("irvf", 1, "bake a cake")


@pytest.mark.parametrize("has", ["weights without an input", "an input without weights"])
def test_a_prompt_needs_both_the_input_and_the_weights(has, known_models, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(known_models.fusion, folder)
    if has.startswith("weights"):
        shutil.copy(load_model(known_models.base, "fusion").onnx, folder / "fusion.onnx")
    else:
        (folder / "config.yaml").write_text("kind: fusion\nonnx: fusion.onnx\nlicence: MIT\n")
    with pytest.raises(ModelError, match=r"takes (no prompt.* has|a prompt.* lacks) weights and text_encoder"):
        pipeline(str(folder))


def test_a_prompt_of_another_size_is_refused_at_warm_up(known_models, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(known_models.fusion, folder)
    network = (folder / "fusion.onnx").read_bytes()
    graph = onnx.load_from_string(network)
    graph.graph.input[2].type.tensor_type.shape.dim[1].dim_value = 36  # C = 2, the weights are of C = 1
    (folder / "fusion.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(EngineError, match="prompt"):
        pipeline(str(folder)).warm_up()


def test_the_overlay_shows_what_was_found(complete):
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[60:120, 80:160] = (250, 20, 20)
    frames = pair(np.full((240, 320), 110, np.uint8), rgb)
    plain = complete.fuse(frames, instruct("viewing"))
    for text in ("segment", "saliency"):
        result = complete.fuse(frames, instruct(text))
        overlay = complete.draw_overlay(result, instruct(text)).astype(int)
        assert (np.abs(overlay - result.fused)[80:100, 100:140].max(axis=2) > 10).all()
    assert np.abs(complete.draw_overlay(plain, instruct()).astype(int) - plain.fused)[:200].max() == 0


def test_the_overlay_is_drawn_on_a_copy(detecting, scene):
    result = detecting.fuse(pair(*scene(240, 320)), instruct("viewing"))
    before = result.fused.copy()
    overlay = detecting.draw_overlay(result, instruct("viewing"))
    assert overlay.shape == before.shape
    assert not np.array_equal(overlay, before)
    np.testing.assert_array_equal(result.fused, before)


@pytest.mark.parametrize("config", [{"model": "no such"}, {"detector": "no such"}, {"model": "detector"}])
def test_a_model_that_is_missing_or_of_another_kind_is_refused(config):
    with pytest.raises(ModelError):
        pipeline(**config)


def model_folder(folder, network):
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"kind": "fusion", "onnx": "net.onnx", "licence": "MIT"}))
    (folder / "net.onnx").write_bytes(network)
    return str(folder)


def test_a_network_for_something_else_is_refused(tmp_path):
    folder = model_folder(tmp_path / "mixed", load_model("detector", "detector").onnx.read_bytes())
    with pytest.raises(EngineError, match="takes thermal and luma"):
        pipeline(folder)


def test_a_network_that_changes_the_size_is_refused_at_warm_up(tmp_path):
    shape = [1, 1, "height", "width"]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["thermal", "luma"], ["sum"]),
            helper.make_node("MaxPool", ["sum"], ["fused"], kernel_shape=[2, 2], strides=[2, 2]),
        ],
        "halving",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("thermal", "luma")],
        [helper.make_tensor_value_info("fused", TensorProto.FLOAT, [1, 1, "half_height", "half_width"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    walk = pipeline(model_folder(tmp_path / "halving", model.SerializeToString()))
    with pytest.raises(EngineError, match="must keep height and width"):
        walk.warm_up()


def test_an_image_fusion_is_the_pipeline_at_full_scale(scene):
    thermal, rgb = scene()
    expected = pipeline("laplacian").fuse(pair(thermal, rgb), instruct()).fused
    np.testing.assert_array_equal(image_fusion("laplacian")(thermal, rgb), expected)


def test_running_imports_neither_training_libraries_nor_ros():
    script = """
import sys
import numpy as np
from irvf.frames import Frame, FramePair
from irvf.pipeline import FusionPipeline, PipelineConfig, read_instruction
pipeline = FusionPipeline(PipelineConfig())
pair = FramePair(Frame(np.zeros((48, 64), np.uint8), "mono8"), Frame(np.zeros((48, 64, 3), np.uint8), "rgb8"))
pipeline.fuse(pair, read_instruction("find the people and make them brighter"))
heavy = "torch transformers ultralytics tensorrt onnx matplotlib rclpy sensor_msgs cv_bridge rosbags".split()
print("imported:", *[name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(  # noqa: S603  (this interpreter, a fixed script)
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["imported:"], done.stdout + done.stderr


def test_more_thermal_changes_nothing_where_the_thermal_camera_does_not_look(scene):
    thermal, rgb = scene()
    thermal = thermal.copy()
    thermal[:2, :2] = 255  # what lies outside must not be filled up with the first pixel
    half = LiveConfig(registration="homography", homography=(1.0, 0, 32, 0, 1, 0, 0, 0, 1))
    fused = pipeline("max", live=half).fuse(pair(thermal, rgb), read_instruction("viewing, much more thermal")).fused
    plain = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[..., 0].astype(int)
    seen = cv2.cvtColor(fused, cv2.COLOR_RGB2YCrCb)[..., 0].astype(int)
    assert np.abs(seen - plain)[:, :30].max() <= 12  # a hot first pixel would make it white
