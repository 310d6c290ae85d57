"""Range modes that follow the scene: what they show of it, and that nothing which comes or goes makes it pump."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from simulated_rig import RigConfig, SimulatedRig
from simulated_rig.sensors import ThermalSensor

from irvf.frames import Frame
from irvf.imaging.thermal import ThermalRange, ThermalRangeConfig

HEIGHT, WIDTH = 96, 120
SECOND = 1_000_000_000
BACKGROUND = np.s_[:, WIDTH // 2 :]
BAR = 0.03
"""Share of black to white by which the background's mean grey level may change a frame."""


def street(seed, hot=None, cover=0.4, noise=0.05):
    """Degrees Celsius of a street at 5 to 9 degrees; a thing ``hot`` degrees warm covers a share of it, at the left."""
    rng = np.random.default_rng(seed)
    celsius = np.linspace(5, 9, HEIGHT)[:, None] + np.linspace(-0.5, 0.5, WIDTH) + rng.normal(0, noise, (HEIGHT, WIDTH))
    if hot is not None:
        columns = round(cover * WIDTH)
        celsius[:, :columns] = hot + rng.normal(0, 0.5, (HEIGHT, columns))
    return celsius


def as_frame(celsius, kind, seconds):
    stamp = round(seconds * SECOND)
    if kind == "16 bit":
        return Frame(np.round((celsius + 273.15) * 100).clip(0, 65535).astype(np.uint16), "mono16", stamp)
    if kind == "8 bit":  # 12 levels a degree, as a camera would send that has been set to this street
        return Frame(np.round(60 + (celsius - 7) * 12).clip(0, 255).astype(np.uint8), "mono8", stamp)
    return Frame(celsius.astype(np.float32), "32FC1", stamp)


def background_levels(config, kind, rate, hot, cover):
    """Mean grey level of the background in each frame: a second without the thing, four with it, four without."""
    thermal_range = ThermalRange(config)
    thing = [None] * rate + [hot] * 4 * rate + [None] * 4 * rate
    planes = [thermal_range(as_frame(street(k, now, cover), kind, k / rate)) for k, now in enumerate(thing)]
    return np.array([plane[BACKGROUND].mean() for plane in planes], np.float64)


@pytest.mark.parametrize("mode", ["auto", "percentile", "plateau"])
@pytest.mark.parametrize("kind", ["16 bit", "8 bit", "float"])
@pytest.mark.parametrize(("hot", "cover"), [(37, 0.02), (37, 0.4), (300, 0.4)])
@pytest.mark.parametrize("rate", [9, 30])
def test_what_enters_and_leaves_does_not_change_the_background_at_once(mode, kind, hot, cover, rate):
    levels = background_levels(ThermalRangeConfig(mode=mode), kind, rate, hot, cover)
    steps = np.abs(np.diff(levels))
    assert steps.max() < BAR
    # What darkens does so by less than 3 % of its own level, too, as long as it can be called a level.
    entering = steps[rate - 1 : 5 * rate - 1] / levels[rate - 1 : 5 * rate - 1]
    assert entering[levels[rate - 1 : 5 * rate - 1] > 0.1].max() < BAR


@pytest.mark.parametrize("mode", ["percentile", "plateau"])
def test_no_value_of_the_scene_changes_its_level_faster(mode):
    def scene(k):
        celsius = street(0, 120 if 10 <= k < 50 else None, noise=0)
        celsius[40:43, -10:] = 60  # a lamp, too small for the range to be laid for it
        return as_frame(celsius, "float", k / 30)

    thermal_range = ThermalRange(ThermalRangeConfig(mode=mode))
    last = thermal_range(scene(0))
    for k in range(1, 120):
        plane = thermal_range(scene(k))
        assert np.abs(plane - last)[BACKGROUND].max() < BAR
        last = plane


@pytest.fixture(scope="module", params=["night", "day"])
def people_walking(request):
    """Counts of the simulated rig's street, five a second."""
    config = RigConfig(thermal_width=160, thermal_height=128, light=request.param, supersampling=1)
    rig, sensor = SimulatedRig(config), ThermalSensor(config)
    stamps = [config.start_stamp_ns + k * SECOND // 5 for k in range(20, 35)]
    return [sensor.expose(rig.temperature(stamp), k) for k, stamp in enumerate(stamps)]


@pytest.mark.parametrize("mode", ["percentile", "plateau"])
def test_a_hot_thing_before_the_simulated_rig(mode, people_walking):
    thermal_range, means = ThermalRange(ThermalRangeConfig(mode=mode, camera="gazebo")), []
    for k, counts in enumerate(people_walking):
        for repeat in range(3):  # 15 frames a second
            seen = counts.copy()
            if 4 <= k < 10:
                seen[:, :64] = 42315  # 150 degrees on 40 % of the picture
            plane = thermal_range(Frame(seen, "mono16", (3 * k + repeat) * SECOND // 15))
            means.append(plane[:, 64:].mean())
    assert np.abs(np.diff(means)).max() < BAR


@pytest.mark.parametrize("mode", ["percentile", "plateau"])
def test_a_scene_that_has_become_wider_is_shown_within_two_seconds(mode):
    thermal_range = ThermalRange(ThermalRangeConfig(mode=mode))
    for k in range(30):
        thermal_range(as_frame(street(k), "16 bit", k / 30))
    rng = np.random.default_rng(0)
    new = street(0) + np.where(np.arange(WIDTH) < 0.45 * WIDTH, rng.uniform(-15, 25, (HEIGHT, WIDTH)), 0)
    for k in range(60):
        plane = thermal_range(as_frame(new, "16 bit", 1 + k / 30))
    fresh = ThermalRange(thermal_range.config)(as_frame(new, "16 bit", 0))
    assert np.abs(plane - fresh).mean() < 0.05
    assert np.abs(plane - fresh).max() < 0.12


@pytest.mark.parametrize("mode", ["percentile", "plateau"])
@pytest.mark.parametrize("why", ["the camera turns", "the gain switches"])
def test_a_scene_that_has_left_the_range_is_shown_at_once(mode, why):
    thermal_range = ThermalRange(ThermalRangeConfig(mode=mode))
    for k in range(30):
        thermal_range(as_frame(street(k), "16 bit", k / 30))
    turned = as_frame(street(1) + 14, "16 bit", 1)
    new = turned if why == "the camera turns" else replace(turned, image=turned.image // np.uint16(10))
    np.testing.assert_array_equal(thermal_range(new), ThermalRange(thermal_range.config)(new))


@pytest.mark.parametrize("mode", ["percentile", "plateau"])
def test_a_restart_shows_the_next_frame_as_if_it_were_the_first(mode):
    thermal_range = ThermalRange(ThermalRangeConfig(mode=mode, destripe="both"))
    for k in range(10):
        thermal_range(as_frame(street(k), "16 bit", k / 30))
    after = as_frame(street(1) + np.linspace(0, 3, WIDTH), "16 bit", 1)
    kept = ThermalRange(thermal_range.config)(after)
    thermal_range.restart()
    np.testing.assert_array_equal(thermal_range(after), kept)


@pytest.mark.parametrize("kind", ["16 bit", "8 bit", "float"])
def test_plateau_keeps_the_order_of_temperatures(kind):
    thermal_range = ThermalRange(ThermalRangeConfig(mode="plateau"))
    for k in range(20):  # also while it changes
        celsius = street(k, 90 if k > 10 else None, 0.2)
        frame = as_frame(celsius, kind, k / 30)
        plane = thermal_range(frame)
        order = np.argsort(frame.image, axis=None, kind="stable")
        assert (np.diff(plane.ravel()[order]) >= 0).all()
        assert plane.dtype == np.float32
        assert plane.min() >= 0
        assert plane.max() <= 1


def test_plateau_spends_its_levels_where_the_pixels_are():
    # A thing of 300 degrees leaves the street 2 % of a straight line; the curve gives it at least a quarter.
    frame = as_frame(street(0, 300), "16 bit", 0)
    line = ThermalRange(ThermalRangeConfig(mode="percentile"))(frame)
    curve = ThermalRange(ThermalRangeConfig(mode="plateau"))(frame)
    assert np.ptp(line[BACKGROUND]) < 0.02
    assert np.ptp(curve[BACKGROUND]) > 0.25
    assert curve[:, :40].min() > curve[BACKGROUND].max() + 0.2  # and the thing is still far brighter


def test_a_higher_plateau_gives_more_levels_to_where_most_pixels_are():
    # 0 to 30 degrees everywhere, but four fifths of the pixels between 10 and 12.
    celsius = np.random.default_rng(0).uniform(0, 30, (HEIGHT, WIDTH))
    celsius[:, : WIDTH * 4 // 5] = np.linspace(10, 12, HEIGHT)[:, None]
    shown = []
    for plateau in (0.0002, 0.004, 0.008, 1.0):
        config = ThermalRangeConfig(mode="plateau", plateau=plateau, min_span_counts=20)
        plane = ThermalRange(config)(as_frame(celsius, "16 bit", 0))
        shown.append(plane[-1, 0] - plane[0, 0])
    # By the definition: a straight line shows 2 of 30 degrees; full equalisation gives 0.7 of all levels by pixels.
    assert shown[0] == pytest.approx(2 / 30, abs=0.015)
    assert shown[3] == pytest.approx(0.7 * (0.8 + 0.2 * 2 / 30) + 0.3 * 2 / 30, abs=0.03)
    assert shown[0] < shown[1] < shown[2] < shown[3]


@pytest.mark.parametrize("plateau", [0.004, 0.02, 1.0])
def test_plateau_does_not_blow_up_the_noise_of_a_flat_scene(plateau):
    counts = (29315 + np.random.default_rng(0).normal(0, 5, (240, 320))).astype(np.uint16)
    config = ThermalRangeConfig(mode="plateau", plateau=plateau, min_span_counts=200)
    plane = ThermalRange(config)(Frame(counts, "mono16"))
    assert plane.std() < 5 / 200 * 1.05
    assert plane.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("encoding", "value"), [("mono8", 0), ("mono8", 255), ("mono16", 0), ("mono16", 65535), ("32FC1", -40.0)]
)
def test_plateau_shows_a_scene_of_one_value_mid_grey(encoding, value):
    dtype = {"mono8": np.uint8, "mono16": np.uint16, "32FC1": np.float32}[encoding]
    plane = ThermalRange(ThermalRangeConfig(mode="plateau"))(Frame(np.full((20, 30), value, dtype), encoding))
    np.testing.assert_allclose(plane, 0.5, atol=0.02)


def test_plateau_shows_a_person_far_brighter_than_the_street():
    celsius = street(0) + cv2.GaussianBlur(np.random.default_rng(1).normal(0, 3, (HEIGHT, WIDTH)), (0, 0), 4)
    celsius[30:60, 50:56] = 28  # 1.5 % of the pixels
    plane = ThermalRange(ThermalRangeConfig(mode="plateau"))(as_frame(celsius, "16 bit", 0))
    assert plane[30:60, 50:56].min() > np.percentile(plane[:, 60:], 95) + 0.15


@pytest.mark.parametrize("mode", ["percentile", "plateau"])
def test_no_float_breaks_the_range(mode):
    config = ThermalRangeConfig(mode=mode, repair_pixels=True, destripe="both")
    thermal_range, rng = ThermalRange(config), np.random.default_rng(0)
    for k, scale in enumerate((1e-30, 20.0, 3e38, 20.0, 1e30, 3e38, 1.0)):
        image = (rng.uniform(-1, 1, (40, 50)) * scale).astype(np.float32)
        image[0, 0] = 3.4e38
        plane = thermal_range(Frame(image, "32FC1", k * SECOND // 30))
        assert plane.dtype == np.float32
        assert np.isfinite(plane).all()
        assert plane.min() >= 0
        assert plane.max() <= 1
