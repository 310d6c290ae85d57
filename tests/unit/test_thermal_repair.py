"""Dead pixels and stripes: found, taken away, and nothing else with them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from simulated_rig import RigConfig, SimulatedRig
from simulated_rig.sensors import THERMAL_BLUR_PX, ThermalSensor

from irvf.frames import Frame
from irvf.imaging.thermal import ThermalRange, ThermalRangeConfig
from irvf.imaging.thermal_repair import Destriping, PixelRepair

HEIGHT, WIDTH = 96, 128
SECOND = 1_000_000_000
NOISE = 0.05  # K
DEAD = {(20, 10): "stuck", (77, 40): "hot", (78, 40): "hot", (0, 0): "cold", (127, 95): "stuck", (50, 70): "hot"}


@pytest.fixture(scope="module")
def world():
    """Degrees Celsius of a wide world as the lens draws it: texture, edges, and points that are less than a pixel."""
    rng = np.random.default_rng(5)
    celsius = cv2.GaussianBlur(rng.normal(0, 8, (HEIGHT, 600)), (0, 0), 6) + 10
    for _ in range(25):
        x, y = rng.integers(5, 580), rng.integers(5, HEIGHT - 12)
        celsius[y : y + rng.integers(2, 12), x : x + rng.integers(1, 8)] += rng.uniform(-5, 15)
    for _ in range(40):
        celsius[rng.integers(2, HEIGHT - 2), rng.integers(2, 598)] += 40
    return cv2.GaussianBlur(celsius, (0, 0), THERMAL_BLUR_PX)


def view(world, k, speed=2, dead=DEAD):
    """What a panning camera delivers: counts of 0.01 K with noise and dead pixels; and the truth."""
    left = speed * k % (world.shape[1] - WIDTH)
    truth = world[:, left : left + WIDTH]
    celsius = truth + np.random.default_rng(k).normal(0, NOISE, truth.shape)
    for (x, y), how in dead.items():
        celsius[y, x] = {"stuck": 45.0, "hot": celsius[y, x] + 6, "cold": celsius[y, x] - 6}[how]
    return np.round((celsius + 273.15) * 100).astype(np.uint16), truth


def test_dead_pixels_are_found_while_the_camera_turns_and_nothing_else_is(world):
    repair = PixelRepair()
    for k in range(120):
        counts, truth = view(world, k)
        repaired = repair(counts, k * SECOND // 30)
    assert set(repair.dead) == set(DEAD)
    celsius = repaired * 0.01 - 273.15
    around = [abs(celsius[y, x] - truth[y, x]) for x, y in DEAD]
    assert max(around) < 1.5  # of the 6 degrees and more that they were off: what the scene changes within a pixel
    changed = np.argwhere(repaired != counts)
    assert {(x, y) for y, x in changed.tolist()} <= set(DEAD)


def test_a_healthy_camera_keeps_every_pixel(world):
    repair = PixelRepair()
    for k in range(120):
        counts, _ = view(world, k, dead={})
        assert repair(counts, k * SECOND // 30) is counts
    assert repair.dead == ()


def test_lamps_before_a_parked_camera_are_kept():
    # For two minutes: the scene cools by 3 degrees meanwhile, so that what surrounds the lamps does change.
    repair, rng = PixelRepair(), np.random.default_rng(0)
    celsius = np.full((HEIGHT, WIDTH), 10.0)
    celsius[rng.integers(2, HEIGHT - 2, 5), rng.integers(2, WIDTH - 2, 5)] += 40
    lamps = cv2.GaussianBlur(celsius, (0, 0), THERMAL_BLUR_PX)
    for k in range(240):
        celsius = lamps - 3 * k / 240 + rng.normal(0, NOISE, lamps.shape)
        counts = np.round((celsius + 273.15) * 100).astype(np.uint16)
        np.testing.assert_array_equal(repair(counts, k * SECOND // 2), counts)


def test_what_stands_out_of_an_unchanging_scene_is_kept():
    # A simulated point, sharper than any lens draws: before a parked camera it cannot be told from a dead pixel.
    repair, rng = PixelRepair(), np.random.default_rng(0)
    for k in range(300):
        counts = np.round(28300 + rng.normal(0, 5, (HEIGHT, WIDTH))).astype(np.uint16)
        counts[30, 40] += 1000
        np.testing.assert_array_equal(repair(counts, k * SECOND // 9), counts)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_hot_things_that_move_are_kept(size):
    repair, rng = PixelRepair(), np.random.default_rng(0)
    for k in range(150):
        celsius = np.full((HEIGHT, WIDTH), 10.0)
        x, y = 10 + k // 2, 20 + k // 5
        celsius[y : y + size, x : x + size] += 20
        celsius = cv2.GaussianBlur(celsius, (0, 0), THERMAL_BLUR_PX) + rng.normal(0, NOISE, celsius.shape)
        counts = np.round((celsius + 273.15) * 100).astype(np.uint16)
        np.testing.assert_array_equal(repair(counts, k * SECOND // 30), counts)


def test_people_in_the_simulated_street_lose_no_pixel():
    config = RigConfig(thermal_width=160, thermal_height=128, supersampling=1)
    rig, sensor, repair = SimulatedRig(config), ThermalSensor(config), PixelRepair()
    for k in range(24):
        counts = sensor.expose(rig.temperature(config.start_stamp_ns + k * SECOND // 4), k)
        assert repair(counts, k * SECOND // 4) is counts


def test_a_pixel_that_has_recovered_is_shown_again(world):
    repair = PixelRepair()
    for k in range(120):
        repair(view(world, k)[0], k * SECOND // 30)
    for k in range(120, 400):
        repair(view(world, k, dead={(50, 70): "hot"})[0], k * SECOND // 30)
    assert repair.dead == ((50, 70),)


def test_known_dead_pixels_are_repaired_from_the_first_frame_on():
    image = np.full((40, 50), 1000, np.uint16)
    image[10, 20] = image[10, 21] = 0
    memory = image.copy()
    memory.setflags(write=False)
    repaired = PixelRepair([(20, 10), (21, 10), (400, 3)])(memory, 0)
    assert (repaired == 1000).all()
    np.testing.assert_array_equal(memory, image)


@pytest.mark.parametrize(("dtype", "frames", "found"), [(np.float32, 120, 6), (np.uint8, 300, 4)])
def test_dead_pixels_of_other_types_are_found(world, dtype, frames, found):
    repair = PixelRepair()
    for k in range(frames):
        celsius = view(world, k)[0] * 0.01 - 273.15
        image = celsius.astype(np.float32) if dtype == np.float32 else (celsius * 4 + 40).clip(0, 255).astype(np.uint8)
        repaired = repair(image, k * SECOND // 30)
    assert set(repair.dead) <= set(DEAD)
    assert len(repair.dead) >= found  # levels of a quarter degree leave less to see
    assert repaired.dtype == dtype


def test_the_range_shows_the_repaired_image(world):
    thermal_range = ThermalRange(ThermalRangeConfig(repair_pixels=True, dead_pixels=((20, 10),)))
    counts, _ = view(world, 0)
    plane = thermal_range(Frame(counts, "mono16"))
    assert abs(plane[10, 20] - plane[10, 18]) < 0.1
    assert thermal_range.dead_pixels == ((20, 10),)
    assert ThermalRange()(Frame(counts, "mono16"))[10, 20] == 1  # without repair: 45 degrees, white


# -- stripes ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["night", "day"])
def striped(request):
    """Counts of the simulated rig, the temperatures as its lens draws them, and the offsets of its columns, in K."""
    config = RigConfig(thermal_width=320, thermal_height=256, light=request.param)
    celsius = SimulatedRig(config).temperature(config.start_stamp_ns + 5 * SECOND)
    truth = cv2.GaussianBlur(celsius, (0, 0), THERMAL_BLUR_PX)
    counts = ThermalSensor(config).expose(celsius, 0)
    # The counts are the truth, the offsets and noise: all that columns have in common beyond the truth are offsets.
    offsets = np.median(counts * 0.01 - 273.15 - truth, axis=0)
    return counts, truth, offsets - offsets.mean()


def test_about_half_of_the_column_noise_of_the_simulated_rig_is_taken_away(striped):
    counts, truth, offsets = striped
    assert offsets.std() == pytest.approx(0.035, rel=0.15)  # what the rig is configured to
    repaired = Destriping()(counts, 0, ("columns",)) * 0.01 - 273.15
    left = np.median(repaired - truth, axis=0)
    assert left.std() < 0.55 * offsets.std()
    # Of what an eye sees as stripes, columns against their neighbours, a third is left at most.
    assert np.diff(left).std() < 0.35 * np.diff(offsets).std()


def test_edges_and_people_change_by_less_than_the_noise(striped):
    counts, truth, offsets = striped
    taken = (counts - Destriping()(counts, 0, ("columns",))) * 0.01
    wrong = np.abs(taken - offsets)
    gradient = np.hypot(cv2.Sobel(truth, cv2.CV_32F, 1, 0), cv2.Sobel(truth, cv2.CV_32F, 0, 1))
    warmest = truth > np.percentile(truth, 97)
    assert wrong[gradient > 2].mean() < NOISE / 2
    assert wrong[warmest].mean() < NOISE / 2
    assert wrong.max() < 3 * NOISE


def test_a_pole_along_the_whole_column_changes_by_a_few_times_the_noise_at_most():
    rng = np.random.default_rng(0)
    for contrast in (0.3, 2.0):
        celsius = 10 + rng.normal(0, NOISE, (256, 320))
        celsius[:, 100:102] += contrast
        counts = np.round((celsius + 273.15) * 100).astype(np.uint16)
        taken = (counts - Destriping()(counts, 0, ("columns",))) * 0.01
        assert np.abs(taken).max() < 3.5 * NOISE


def test_offsets_of_rows_are_taken_away_frame_by_frame(striped):
    _, truth, _ = striped
    rng, destriping = np.random.default_rng(0), Destriping()
    for k in range(3):
        rows = rng.normal(0, 0.06, len(truth))
        celsius = truth + rows[:, None] + rng.normal(0, NOISE, truth.shape)
        counts = np.round((celsius + 273.15) * 100).astype(np.uint16)
        repaired = destriping(counts, k * SECOND // 9, ("rows",)) * 0.01 - 273.15
        left = np.median(repaired - truth, axis=1)
        # The road's texture runs along rows near the horizon and cannot be told from offsets there.
        assert left.std() < 0.8 * rows.std()
        assert np.diff(left).std() < 0.7 * np.diff(rows).std()


def test_offsets_of_columns_are_followed_over_time(striped):
    counts, _, _ = striped
    destriping = Destriping()
    before = destriping(counts, 0, ("columns",))
    drifted = np.round(counts + 10 * np.sin(np.arange(320) * 1.7)).astype(np.uint16)  # 0.1 K
    soon = destriping(drifted, SECOND // 30, ("columns",))
    for k in range(2, 120):
        later = destriping(drifted, k * SECOND // 30, ("columns",))
    fresh = Destriping()(drifted, 0, ("columns",))
    assert np.abs(later - fresh).max() < 0.5
    assert np.abs(soon - fresh).max() > 5
    destriping.restart()
    np.testing.assert_array_equal(destriping(drifted, 5 * SECOND, ("columns",)), fresh)
    assert before.dtype == np.float32


def test_an_even_scene_and_small_images_are_left_alone():
    even = np.full((64, 80), 29000, np.uint16)
    np.testing.assert_array_equal(Destriping()(even, 0, ("rows", "columns")), even)
    for shape in ((1, 1), (2, 3), (8, 2), (3, 200)):
        image = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
        assert Destriping()(image, 0, ("rows", "columns")).shape == shape
        assert PixelRepair()(image, 0).shape == shape


def test_nothing_is_done_where_nothing_is_wanted(striped):
    assert Destriping()(striped[0], 0, ()) is striped[0]


@pytest.mark.parametrize("mode", ["percentile", "plateau"])
def test_the_range_shows_the_image_without_stripes(striped, mode):
    counts, _, _ = striped
    planes = [
        ThermalRange(ThermalRangeConfig(mode=mode, camera="gazebo", destripe=lines))(Frame(counts, "mono16"))
        for lines in ("auto", "columns")
    ]
    stripes = [np.median(np.diff(plane, axis=1), axis=0).std() for plane in planes]
    assert stripes[1] < 0.6 * stripes[0]


def test_known_dead_pixels_are_mended_in_an_image_of_another_size():
    repair = PixelRepair([(5, 99)])
    for height in (240, 100):
        image = np.full((height, 320), 30000, np.uint16)
        image[99, 5] = 0
        assert repair(image, 0)[99, 5] == 30000
