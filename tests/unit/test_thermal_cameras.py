"""Presets of cameras, and ranges between two temperatures."""

from __future__ import annotations

import numpy as np
import pytest

from irvf.frames import Frame
from irvf.imaging.encodings import RGB_ENCODINGS, THERMAL_ENCODINGS
from irvf.imaging.errors import FrameError
from irvf.imaging.thermal import DESTRIPE_MODES, RadiometricScale, ThermalRange, ThermalRangeConfig
from irvf.imaging.thermal_cameras import FLOAT_UNITS, THERMAL_CAMERAS, find_camera


def fixed(camera="generic", low=0.0, high=50.0, **changes):
    return ThermalRange(ThermalRangeConfig(mode="fixed", camera=camera, low_celsius=low, high_celsius=high, **changes))


# Counts at which the cameras' formats say 25 degrees Celsius, from what is published of them.
@pytest.mark.parametrize(
    ("camera", "counts", "encoding"),
    [
        ("lepton", 29815, "16UC1"),  # 298.15 K in hundredths
        ("lepton_low_gain", 2981.5, "16UC1"),  # in tenths
        ("boson_tlinear", 29815, "16UC1"),
        ("optris", 1250, "mono16"),  # (1250 - 1000) / 10
        ("gazebo", 29815, "mono16"),
        ("gazebo", 298.15 / 3, "mono8"),  # 3 K a count
    ],
)
def test_presets_show_temperatures(camera, counts, encoding):
    dtype = np.uint8 if encoding == "mono8" else np.uint16
    plane = fixed(camera)(Frame(np.full((8, 8), round(counts), dtype), encoding))
    scale = find_camera(camera).scale_8_bit if dtype == np.uint8 else find_camera(camera).scale
    np.testing.assert_allclose(plane, 0.5, atol=scale.scale / 50)


@pytest.mark.parametrize(("unit", "value"), [("celsius", 25.0), ("kelvin", 298.15)])
@pytest.mark.parametrize("camera", ["generic", "oak_t", "seek", "hikmicro"])
def test_float_images_are_temperatures_of_the_unit_that_is_told(unit, value, camera):
    plane = fixed(camera, float_unit=unit)(Frame(np.full((8, 8), value, np.float32), "32FC1"))
    np.testing.assert_allclose(plane, 0.5, atol=1e-5)


def test_a_fixed_range_shows_its_ends_black_and_white_whatever_the_scene():
    celsius = np.array([[-40.0, 10.0, 20.0, 30.0, 400.0]], np.float32)
    thermal_range = fixed(low=10.0, high=30.0)
    np.testing.assert_allclose(thermal_range(Frame(celsius, "32FC1")), [[0, 0, 0.5, 1, 1]], atol=1e-6)
    np.testing.assert_allclose(thermal_range(Frame(celsius[:, :3].copy(), "32FC1", 10)), [[0, 0, 0.5]], atol=1e-6)


def test_an_explicit_scale_wins_over_the_preset():
    counts = np.full((8, 8), 125, np.uint16)
    thermal_range = fixed("lepton", radiometric=RadiometricScale(0.2, 0.0))
    np.testing.assert_allclose(thermal_range(Frame(counts, "mono16")), 0.5, atol=1e-5)
    eight_bits = fixed("gazebo", radiometric=RadiometricScale(0.2, 0.0))
    np.testing.assert_allclose(eight_bits(Frame(counts.astype(np.uint8), "mono8")), 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("camera", "image", "encoding"),
    [
        ("generic", np.zeros((4, 4), np.uint16), "mono16"),
        ("boson", np.zeros((4, 4), np.uint16), "16UC1"),
        ("lepton", np.zeros((4, 4), np.uint8), "mono8"),  # stretched by the camera's AGC
        ("gazebo", np.zeros((4, 4, 3), np.uint8), "rgb8"),  # a palette
    ],
)
def test_a_fixed_range_without_temperatures_says_what_is_missing(camera, image, encoding):
    with pytest.raises(FrameError, match=rf"{encoding} images of camera '{camera}'.*scale") as refused:
        fixed(camera)(Frame(image, encoding))
    assert refused.value.reason == "radiometric"


def test_eight_bits_with_temperatures_follow_the_scene():
    # A simulated room of 288 to 303 K: 96 to 101 counts. All of 0 to 765 K would show it in 2 % of the grey levels.
    image = np.repeat(np.arange(96, 102, dtype=np.uint8), 20)[None].repeat(90, axis=0)
    plane = ThermalRange(ThermalRangeConfig(camera="gazebo"))(Frame(image, "mono8"))
    assert np.ptp(plane) == pytest.approx(5 / 8, abs=0.01)  # 8 counts at least make black to white
    np.testing.assert_allclose(ThermalRange()(Frame(image, "mono8")), image / 255, atol=1e-6)  # without: as they are


@pytest.mark.parametrize("camera", THERMAL_CAMERAS.values(), ids=THERMAL_CAMERAS.keys())
def test_presets_are_complete(camera):
    assert THERMAL_CAMERAS[camera.name] is camera
    assert camera.float_unit in FLOAT_UNITS
    assert camera.destripe in DESTRIPE_MODES
    assert set(camera.encodings) <= {*THERMAL_ENCODINGS, *RGB_ENCODINGS}
    assert camera.note
    assert camera.name == "generic" or all(source.startswith("https://") for source in camera.sources)
    assert camera.name == "generic" or camera.sources
    assert ThermalRangeConfig(camera=camera.name).striped in ((), ("rows",), ("columns",), ("rows", "columns"))


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        THERMAL_CAMERAS["generic"] = THERMAL_CAMERAS["lepton"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"camera": "kodak"},
        {"float_unit": "rankine"},
        {"destripe": "diagonals"},
        {"low_celsius": 50.0},
        {"high_celsius": float("inf")},
        {"low_celsius": -300.0},
        {"plateau": 0.0},
        {"plateau": 1.5},
        {"plateau": float("nan")},
    ],
)
def test_configurations_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        ThermalRangeConfig(**wrong)
