"""Bad input is refused with one clear message and counted; the next good pair comes out as usual."""

import shutil
import struct
import time
from array import array
from pathlib import Path

import numpy as np
import pytest
import yaml
from bench import ERROR, PERIOD, RGB, START, THERMAL, image, rgb_image, thermal_image

from irvf.models import available_models
from irvf_msgs.msg import FusionStatus

SECOND = 1_000_000_000


def changed(message, **fields):
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def cut(message):
    return changed(message, data=message.data[: len(message.data) // 2])


BAD_IMAGES = {
    "an encoding nobody knows": ("encoding", lambda m: changed(m, encoding="yuv9000\x1b[31m\n")),
    "no encoding": ("encoding", lambda m: changed(m, encoding="")),
    "an encoding of 100 KB": ("encoding", lambda m: changed(m, encoding="x" * 100_000)),
    "a step that is too small": ("step", lambda m: changed(m, step=5)),
    "a step beyond the data": ("truncated", lambda m: changed(m, step=2**31)),
    "truncated data": ("truncated", cut),
    "no data": ("truncated", lambda m: changed(m, data=array("B"))),
    "no pixels": ("size", lambda m: changed(m, width=0, height=0, step=0, data=array("B"))),
    "no rows": ("size", lambda m: changed(m, height=0)),
    "sides of 4 billion": ("size", lambda m: changed(m, width=2**32 - 1, height=2**32 - 1)),
}


@pytest.mark.parametrize("stream", ["thermal", "rgb"])
def test_bad_images_are_refused_and_the_next_pair_is_fused(active, stream, capfd):
    bench = active()
    capfd.readouterr()
    make = thermal_image if stream == "thermal" else rgb_image
    expected = {}
    for number, (reason, spoil) in enumerate(BAD_IMAGES.values()):
        for repetition in range(3):
            bench.send(**{stream: spoil(make(START + number * PERIOD + repetition))})
        expected[f"refused.{reason}"] = expected.get(f"refused.{reason}", 0) + 3
    bench.fuse(START + SECOND)
    after = bench.settled()
    account = after.thermal if stream == "thermal" else after.rgb
    assert {name: n for name, n in account.items() if name.startswith("refused.")} == expected
    assert after.pairs == {"pairs.fused": 1}
    # One line for each reason, however many there were, and nothing of the text that came in its raw form.
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(expected)
    assert all(line.isprintable() and len(line) < 600 for line in lines)
    assert all(sum(f"{stream}.{reason}" in line for line in lines) == 1 for reason in expected)


def with_values(values):
    pixels = np.tile(np.linspace(290, 310, 64, dtype=np.float32), (48, 1))
    pixels.ravel()[: len(values)] = values
    return lambda stamp: image(pixels, "32FC1", stamp, "thermal_optical")


@pytest.mark.parametrize(
    ("make_thermal", "reason"),
    [
        (with_values([np.nan] * 2000), "not_finite"),
        (with_values([np.inf, -np.inf] * 1000), "not_finite"),
        (lambda stamp: image(np.zeros((1, 1), np.uint16), "mono16", stamp, "t"), "size"),
    ],
    ids=["NaN", "inf", "one pixel"],
)
def test_pairs_that_cannot_be_fused_are_refused(active, make_thermal, reason):
    bench = active()
    bench.fuse(START)
    for number in range(1, 4):
        bench.send(make_thermal(START + number * PERIOD), rgb_image(START + number * PERIOD))
        status = bench.wait_for(lambda number=number: bench.status_of(START + number * PERIOD), "a status")
        assert status.outcome == FusionStatus.REFUSED
        assert status.message
    assert len(bench.log_texts()) == 1
    bench.fuse(START + 4 * PERIOD)
    assert bench.settled().pairs == {"pairs.fused": 2, f"pairs.refused.{reason}": 3}


def test_a_few_dead_pixels_are_no_reason_to_refuse(active):
    bench = active()
    out = bench.fuse(START, thermal=with_values([np.nan, np.inf, -np.inf])(START))
    assert len(out.image.data) == 96 * 128 * 3


def test_sizes_and_encodings_may_change_mid_stream(active, known_detector):
    bench = active(detector=known_detector, instruction__initial="detection")
    rng = np.random.default_rng(1)
    sizes = [((48, 64), (96, 128)), ((120, 160), (96, 128)), ((120, 160), (33, 47)), ((16, 200), (480, 640))]
    for number, (thermal_size, rgb_size) in enumerate(sizes):
        stamp = START + number * PERIOD
        kinds = [("mono8", np.uint8), ("16UC1", np.uint16), ("32FC1", np.float32), ("mono16", np.uint16)]
        encoding, dtype = kinds[number]
        thermal = image(rng.integers(0, 255, thermal_size).astype(dtype), encoding, stamp, "t")
        out = bench.fuse(stamp, thermal, rgb_image(stamp, *rgb_size))
        assert (out.image.height, out.image.width) == rgb_size
        assert out.status.detections >= 1


@pytest.mark.parametrize("alone", ["thermal", "rgb"])
def test_one_stream_without_the_other_is_said_and_harms_nothing(active, alone):
    bench = active()
    make = thermal_image if alone == "thermal" else rgb_image
    for number in range(40):
        bench.send(**{alone: make(START + number * PERIOD)})
    missing = RGB if alone == "thermal" else THERMAL
    bench.diagnostics(
        lambda parts: parts["input streams"].level == b"\x01" and missing in parts["input streams"].message,
        "a warning that names the silent topic",
    )
    after = bench.settled()
    account = after.thermal if alone == "thermal" else after.rgb
    assert account["received"] == 40
    assert account["dropped.no_partner"] + account["dropped.overflow"] == 40
    assert bench.heard["status"] == []
    known = len(bench.heard["diagnostics"])
    for number in range(41, 111):
        bench.send_pair(START + number * PERIOD)
        time.sleep(0.1)
    levels = [
        entry.level
        for message in bench.heard["diagnostics"][known:]
        for entry in message.status
        if "streams" in entry.name
    ]
    assert levels[-1] == b"\x00"  # the warning has gone, once it was well for a while


def test_stamps_that_jump_back_start_anew(active):
    bench = active()
    for lap in (10 * SECOND, 5 * SECOND, 0):
        for number in range(3):
            bench.fuse(START + lap + number * PERIOD)
    assert bench.settled().pairs == {"pairs.fused": 9}


# Models and parameters: a failure to configure leaves the node unconfigured, and able to be configured again


def check_cannot_configure(bench, *words):
    assert not bench.change_state("configure")
    assert bench.state() == "unconfigured"
    (error,) = bench.wait_for(lambda: bench.log_texts(level=ERROR), "an error in the log")
    assert all(word in error for word in words), error


def check_works(bench):
    bench.activate()
    bench.fuse(START)


def copy_model(name, target):
    shutil.copytree(available_models()[name], target)
    content = yaml.safe_load((target / "config.yaml").read_text())
    return target / content["onnx"]


def truncate(folder, onnx):
    onnx.write_bytes(onnx.read_bytes()[:10_000])


def no_network(folder, onnx):
    onnx.write_bytes(b"\x00" * 4096)


def empty(folder, onnx):
    onnx.write_bytes(b"")


def remove(folder, onnx):
    onnx.unlink()


def spoil_config(folder, onnx):
    (folder / "config.yaml").write_text("{{{")


def binary_config(folder, onnx):
    (folder / "config.yaml").write_bytes(struct.pack("<Q", 2**63))


@pytest.mark.parametrize("spoil", [truncate, no_network, empty, remove, spoil_config, binary_config])
@pytest.mark.parametrize(
    ("parameter", "model"), [("model", "irvf"), ("detector", "detector"), ("segmentation.model", "segmentation")]
)
def test_a_corrupt_model_is_refused_and_a_good_one_taken(bench, model_path, spoil, parameter, model):
    folder = Path(model_path) / "corrupt"
    spoil(folder, copy_model(model, folder))
    made = bench(**{parameter: "corrupt"})
    check_cannot_configure(made, "corrupt")
    assert made.set_parameter(parameter, "max" if parameter == "model" else "").successful
    check_works(made)


def test_a_detector_is_no_fusion_model(bench):
    made = bench(model="detector")
    check_cannot_configure(made, "detector", "fusion")


def test_a_missing_model_is_named_with_those_that_are_there(bench):
    made = bench(model="no_such_model")
    check_cannot_configure(made, "no_such_model", "irvf", "IRVF_MODEL_PATH")
    fusion = made.diagnostics(lambda parts: parts["fusion"].level == b"\x02", "an error in the diagnostics")["fusion"]
    assert "no_such_model" in fusion.message
    assert fusion.values["configure.failed"] == "1"
    assert made.set_parameter("model", "average").successful
    check_works(made)
    fusion = made.diagnostics(lambda parts: parts["fusion"].level == b"\x00", "no error in the diagnostics")["fusion"]
    assert fusion.values["model"] == "average"


def test_unknown_parameters_are_ignored_with_a_hint_each(bench):
    made = bench(**{"pairing.max_gp": 0.1, "detektor": "x", "qwertz": True})
    made.wait_for(lambda: len(made.log_texts()) >= 3, "a warning for each")
    warnings = {name: [text for text in made.log_texts() if name in text] for name in ("max_gp", "detektor", "qwertz")}
    assert all(len(texts) == 1 for texts in warnings.values())
    assert "did you mean 'pairing.max_gap'" in warnings["max_gp"][0]
    assert "did you mean 'detector'" in warnings["detektor"][0]
    assert "did you mean" not in warnings["qwertz"][0]
    made.diagnostics(lambda parts: parts["fusion"].values.get("parameter.unknown") == "3", "counted")
    check_works(made)


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("processing_scale", 7.5, 1.0),
        ("processing_scale", float("nan"), 1.0),
        ("processing_scale", "half", 1.0),
        ("threads", -1, 1),
        ("threads", 1.5, 1),
        ("pairing.max_gap", -0.1, 0.02),
        ("pairing.max_gap", True, 0.02),
        ("engine", "warp drive", "auto"),
        ("thermal.range", "", "auto"),
        ("model", 5, "max"),
        ("registration.homography", [1.0, 2.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
        ("registration.homography", "identity!", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_until_it_is_set(bench, name, bad, good):
    made = bench(**{name: bad})
    made.wait_for(made.log_texts, "a warning at start")
    check_cannot_configure(made, name)
    assert made.set_parameter(name, good).successful
    check_works(made)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"instruction.initial": "bake a cake"}, ("instruction.initial", "cake")),
        ({"instruction.tasks_file": "/no/such/file.yaml"}, ("/no/such/file.yaml",)),
        ({"registration.method": "homography", "registration.homography": [0.0] * 9}, ("homography",)),
        ({"image_conversion": "opencv"}, ("image_conversion",)),
    ],
)
def test_values_that_do_not_fit_each_other_fail_to_configure(bench, parameters, words):
    check_cannot_configure(bench(**parameters), *words)


@pytest.mark.parametrize(
    ("name", "integers"), [("processing_scale", 1), ("registration.homography", [1, 0, 0, 0, 1, 0, 0, 0, 1])]
)
def test_integers_for_a_floating_point_parameter_are_told_how_to_be_written(bench, name, integers):
    check_cannot_configure(bench(**{name: integers}), name, "1.0")


def test_a_qos_override_that_does_not_exist_fails_to_activate(bench):
    made = bench(**{f"qos_overrides.{THERMAL}.subscription.reliability": "very_reliable"})
    assert made.change_state("configure")
    assert not made.change_state("activate")
    assert made.state() == "inactive"
    made.diagnostics(lambda parts: "very_reliable" in parts["fusion"].message, "the reason")
    assert [text for text in made.log_texts() if "very_reliable" in text]
    assert made.node.count_subscribers(RGB) == 0
