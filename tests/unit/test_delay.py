import cv2
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from moving_camera import MovingRig, hand_held, turned_view
from simulated_rig import RigConfig, SimulatedRig

from irvf.frames import Frame
from irvf.imaging.delay import MAX_DELAY, estimate_delay
from irvf.imaging.errors import FrameError
from irvf.imaging.motion import LONGEST_GAP, MotionRecording, MotionSignal, displacement, thumbnail

MS = 1e-3


@pytest.fixture(scope="module")
def rig():
    return MovingRig("day")


def recorded(frames):
    recording = MotionRecording()
    for frame in frames:
        recording.add(frame)
    return recording.signal()


# How a picture has moved


def shifted(picture, x, y, degrees=0.0):
    """A picture that has moved right and down, and turned clockwise about the middle, cut out with a margin."""
    height, width = picture.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(middle, -degrees, 1.0)
    matrix[:, 2] += (x, y)
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC)
    return np.ascontiguousarray(moved[16:-16, 32:-32])


@pytest.mark.parametrize(("x", "y", "degrees"), [(0.6, -0.4, 0), (3, 2, 0.5), (-20, 9, 0), (0, 0, -2), (12, -10, 2)])
@pytest.mark.parametrize("kind", ["rgb8", "mono16"])
def test_a_known_shift_and_turn_is_found(rig, kind, x, y, degrees):
    picture = rig.rgb_picture if kind == "rgb8" else rig.thermal_picture
    before, after = (thumbnail(Frame(shifted(picture, *move), kind)) for move in ((0, 0), (x, y, degrees)))
    scale = 160 / (picture.shape[1] - 64)
    found = displacement(before, after)
    assert found[:2] == pytest.approx([x * scale, y * scale], abs=0.15)
    assert found[2] == pytest.approx(np.radians(degrees) * 40, abs=0.05)


def test_gain_brightness_noise_and_fixed_columns_do_not_look_like_motion(rig):
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(1, rig.thermal_picture.shape[1])) * 20  # six times those of the simulated camera

    def seen(x, gain, offset):
        picture = shifted(rig.thermal_picture.astype(np.float32), x, 0)
        picture = picture + columns[:, 32:-32] + generator.normal(size=picture.shape) * 5
        return thumbnail(Frame(np.rint(picture * gain + offset).astype(np.uint16), "mono16"))

    assert displacement(seen(0, 1, 0), seen(4, 0.5, 900))[0] == pytest.approx(4 * 160 / 256, abs=0.15)


def test_what_moves_by_itself_does_not_move_the_camera(rig):
    before = shifted(rig.rgb_picture, 0, 0)
    after = before.copy()
    after[60:160, 100:180] = np.roll(before, 6, axis=1)[60:160, 100:180]
    found = displacement(thumbnail(Frame(before, "rgb8")), thumbnail(Frame(after, "rgb8")))
    assert np.abs(found).max() < 0.1


def test_pictures_without_structure_stand_still():
    flat = thumbnail(Frame(np.full((120, 160), 7, np.uint8), "mono8"))
    assert not flat.any()
    assert np.array_equal(displacement(flat, flat), np.zeros(3))
    assert np.isfinite(thumbnail(Frame(np.full((120, 160), np.nan, np.float32), "32FC1"))).all()


@pytest.mark.parametrize(
    ("image", "encoding"), [(np.zeros((64, 64), np.uint8), "mono16"), (np.zeros((8, 8), np.uint8), "mono8")]
)
def test_pictures_that_cannot_be_measured_are_refused(image, encoding):
    with pytest.raises(FrameError):
        thumbnail(Frame(image, encoding))


def test_a_recording_takes_at_most_fifty_frames_a_second_and_begins_anew_after_a_jump(rig):
    image = shifted(rig.thermal_picture, 0, 0)
    recording = MotionRecording()
    for number in range(20):
        recording.add(Frame(image, "mono16", 10**9 + number * 10_000_000))
    assert len(recording) == 10
    recording.add(Frame(image, "mono16", 10**9))  # late
    assert len(recording) == 10
    for stamp in (10**9 + 2 * LONGEST_GAP, 10**9):
        recording.add(Frame(image, "mono16", stamp))
        assert len(recording) == 1
    recording.add(Frame(image[:-40], "mono16", 10**9 + 30_000_000))
    assert len(recording) == 1


# The delay, from pictures


@pytest.mark.parametrize(("light", "delay"), [("day", 0.063), ("night", -0.078)])
def test_the_delay_of_a_moving_rig_is_found(light, delay):
    rig = MovingRig(light)
    thermal, rgb = rig.frames(hand_held(5, 7), 7, delay=delay, thermal_turned_over=light == "night")
    estimate = estimate_delay(recorded(thermal), recorded(rgb))
    assert estimate.accepted, estimate.reason
    assert estimate.delay == pytest.approx(delay, abs=3 * MS)
    assert estimate.uncertainty < 3 * MS
    assert estimate.confidence > 0.5


def test_a_rig_that_stands_still_is_told_to_move(rig):
    thermal, rgb = rig.frames(np.zeros((8000, 3)), 6, hz=(9, 15))
    estimate = estimate_delay(recorded(thermal), recorded(rgb))
    assert not estimate.accepted
    assert "hardly moves" in estimate.reason


def test_people_who_walk_past_a_rig_that_stands_still_do_not_tell():
    config = RigConfig(
        light="night",
        rgb_width=160,
        rgb_height=120,
        thermal_width=160,
        thermal_height=128,
        rate_hz=10.0,
        supersampling=1,
        duration_s=5.0,
    )
    samples = list(SimulatedRig(config))
    thermal = recorded([Frame(sample.thermal, "mono16", sample.thermal_stamp) for sample in samples])
    rgb = recorded([Frame(sample.rgb, "rgb8", sample.stamp) for sample in samples])
    estimate = estimate_delay(thermal, rgb)
    assert not estimate.accepted
    assert "hardly moves" in estimate.reason


# The delay, from paths that are known exactly


def path_signal(angles, times, delay=0.0, noise=0.0, scale=150.0, seed=0):
    generator = np.random.default_rng(seed)
    path = angles[np.round(times * 1000).astype(int)] * scale
    steps = np.diff(path, axis=0) + generator.normal(size=(len(times) - 1, 3)) * noise
    return MotionSignal(times + delay, np.vstack([np.zeros(3), np.cumsum(steps, axis=0)]))


def regular(hz, seconds=11.0, phase=0.003):
    return np.arange(phase, seconds, 1 / hz)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    delay=st.floats(-0.4, 0.4),
    hz=st.tuples(st.sampled_from([5, 9, 12.5, 27, 50]), st.sampled_from([10, 15, 30, 50])),
    phase=st.floats(0, 0.1),
    seed=st.integers(0, 1000),
    noise=st.floats(0, 0.08),
)
def test_what_is_accepted_is_right(delay, hz, phase, seed, noise):
    angles = hand_held(seed, 12)
    thermal = path_signal(angles, regular(hz[0], phase=phase), delay, noise, scale=-220.0, seed=seed)
    rgb = path_signal(angles, regular(hz[1]), 0.0, noise / 2, seed=seed + 1)
    estimate = estimate_delay(thermal, rgb)
    if estimate.accepted:
        assert abs(estimate.delay - delay) < max(8 * MS, 6 * estimate.uncertainty)
    if hz[1] >= 15:
        assert estimate.accepted, estimate.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: np.sin(np.arange(12000)[:, None] * 2 * np.pi * 4 / 1000) * [0.02, 0.01, 0], "irregularly"),
        (lambda _: np.arange(12000)[:, None] * [1e-3, 0, 0], "hardly moves"),
        (lambda angles: angles * 0.01, "hardly moves"),
    ],
    ids=["to and fro like clockwork", "one steady turn", "hardly at all"],
)
def test_motion_that_does_not_tell_is_refused(change, reason):
    angles = change(hand_held(1, 12))
    estimate = estimate_delay(path_signal(angles, regular(9), 0.05), path_signal(angles, regular(30)))
    assert not estimate.accepted
    assert reason in estimate.reason


def test_streams_that_see_different_things_are_refused():
    thermal = path_signal(hand_held(1, 12), regular(9))
    rgb = path_signal(hand_held(2, 12), regular(30))
    assert not estimate_delay(thermal, rgb).accepted


def test_a_delay_beyond_the_search_is_refused_and_found_where_it_is_looked_for():
    angles = hand_held(3, 12)
    thermal, rgb = path_signal(angles, regular(9), 120.7), path_signal(angles, regular(30))
    assert "hardly overlap" in estimate_delay(thermal, rgb).reason
    estimate = estimate_delay(thermal, rgb, around=120.5)
    assert estimate.accepted
    assert estimate.delay == pytest.approx(120.7, abs=2 * MS)
    assert MAX_DELAY == 0.5


def test_missing_frames_and_a_closed_shutter_do_not_mislead():
    angles = hand_held(4, 15)
    generator = np.random.default_rng(0)
    times = regular(9, 14)
    thermal = path_signal(angles, times, 0.04)
    shut = (times > 6) & (times < 6.7)  # the picture stands still, and then jumps to where it would be
    path = thermal.path.copy()
    path[shut] = path[np.flatnonzero(shut)[0]]
    fast = regular(30, 14)
    rgb = path_signal(angles, fast[generator.random(fast.size) > 0.15])
    estimate = estimate_delay(MotionSignal(thermal.stamps, path), rgb)
    assert estimate.accepted
    assert estimate.delay == pytest.approx(0.04, abs=3 * MS)


def test_too_few_frames_are_refused():
    angles = hand_held(1, 12)
    estimate = estimate_delay(path_signal(angles, regular(9, 1.5)), path_signal(angles, regular(30)))
    assert not estimate.accepted
    assert "ask for more time" in estimate.reason


def test_the_view_turns_as_the_angles_say(rig):
    """The ground truth of these tests: yaw to the right moves the picture left by focal length times tangent."""
    still, turned = (
        thumbnail(Frame(turned_view(rig.rgb_picture, angles, rig.rgb_focal, (288, 216)), "rgb8"))
        for angles in ((0, 0, 0), (0.02, 0, 0))
    )
    expected = -rig.rgb_focal * np.tan(0.02) * 160 / 288
    assert displacement(still, turned)[0] == pytest.approx(expected, rel=0.05)
