"""The misalignment that a stream shows, against warps that are known and the simulated rig's depths."""

import subprocess
import sys
import threading
import time
from itertools import pairwise

import cv2
import numpy as np
import pytest
from simulated_rig import RigConfig, SimulatedRig, homography_thermal_to_rgb

from irvf.cli import register
from irvf.evaluation.registration import corner_error, measure_registration, random_warp, registration_table
from irvf.imaging.alignment import AlignmentConfig, AlignmentEstimator
from irvf.imaging.camera_geometry import corner_pixels, homography_points
from irvf.imaging.registration import Registration
from irvf.training.data import find_pairs

SIZE = (480, 640)
EVERY_PAIR = AlignmentConfig(every=1, every_settled=1)


@pytest.fixture(scope="module")
def rig():
    return SimulatedRig(RigConfig(seed=1, light="day", supersampling=1, duration_s=8))


def planes(rig, index):
    sample = rig.sample(index)
    counts = sample.thermal.astype(np.float32)
    low, high = np.percentile(counts, (1, 99))
    luma = cv2.cvtColor(sample.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    return np.clip((counts - low) / (high - low), 0, 1).astype(np.float32), luma


@pytest.fixture(scope="module")
def luma(rig):
    return planes(rig, 0)[1]


def seen_by_thermal(luma, warp=None):
    """Another modality without parallax: bright is dark, and everything is darker to the left; then warped."""
    thermal = (1 - luma) ** 2 * np.linspace(0.4, 1, luma.shape[1], dtype=np.float32)
    return thermal if warp is None else cv2.warpPerspective(thermal, warp, luma.shape[::-1])


def offer(estimator, thermal, luma, times=1):
    def view(size):
        return *(cv2.resize(each, size[::-1], interpolation=cv2.INTER_AREA) for each in (thermal, luma)), None

    for _ in range(times):
        estimator.offer(view, luma.shape)
    return estimator.alignment


def shifted(x, y=0.0):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def turned(degrees):
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D((319.5, 239.5), degrees, 1.0)
    return turn


def applied(alignment):
    """From RGB to thermal pixels, as warps are."""
    return np.linalg.inv(np.array(alignment.homography).reshape(3, 3))


@pytest.mark.parametrize("seed", range(3))
def test_a_warp_is_found_in_one_pair_shown_again_and_again(luma, seed):
    warp = random_warp(SIZE, 12, np.random.default_rng(seed))
    alignment = offer(AlignmentEstimator(background=False), seen_by_thermal(luma, warp), luma, 60)
    assert alignment.state == "aligned"
    assert corner_error(np.eye(3), warp, SIZE) > 6
    assert corner_error(applied(alignment), warp, SIZE) < 2.0


def true_points(rig):
    """RGB pixels and the thermal pixels that see the same points of the street, at their own depths."""
    depth = rig._rgb_view._depth[::8, ::8].ravel()
    y, x = np.mgrid[0 : SIZE[0] : 8, 0 : SIZE[1] : 8]
    pixels = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(rig.rgb_camera.matrix).T
    world = (rays * depth[:, None]) @ rig.rgb_camera.rotation + rig.rgb_camera.position
    thermal, ahead = rig.thermal_camera.project(world)
    inside = (ahead > 0) & (thermal >= 0).all(1) & (thermal < (320, 256)).all(1)
    return pixels[inside], thermal[inside]


@pytest.mark.parametrize("wrong", [shifted(5.66, -5.66), turned(2.0)], ids=["8 px", "2 degrees"])
def test_the_simulated_rig_is_aligned_from_afar(rig, wrong):
    given = wrong @ homography_thermal_to_rgb(rig.config, 12.0)
    registration = Registration("auto", given, initial="homography", background=False)
    frames = [planes(rig, index) for index in (0, 60, 120, 180)]
    for index in range(60):
        registration.observe(*frames[index // 15])
    pixels, thermal = true_points(rig)
    found = np.array(registration.alignment.homography).reshape(3, 3) @ given
    before, after = (np.linalg.norm(homography_points(each, thermal)[0] - pixels, axis=1) for each in (given, found))
    assert np.median(before) > 4
    assert np.median(after) < 2.0
    assert registration.alignment.state == "aligned"


@pytest.mark.parametrize(
    ("thermal", "says"),
    [
        (lambda luma: np.full_like(luma, 0.5), "thermal image is nearly of one grey level"),
        (lambda _: np.random.default_rng(0).random(SIZE, dtype=np.float32), "blocks"),
        (lambda luma: seen_by_thermal(luma[::-1, ::-1]), "blocks"),
        (lambda luma: seen_by_thermal(luma, shifted(60)), "blocks|limit|another displacement"),
    ],
    ids=["flat", "noise", "another scene", "out of reach"],
)
def test_weak_evidence_is_refused_with_its_reason(luma, thermal, says):
    alignment = offer(AlignmentEstimator(background=False), thermal(luma), luma, 20)
    assert alignment.state == "refused"
    assert any(each in alignment.reason for each in says.split("|")), alignment.reason
    assert (alignment.updates, alignment.confidence) == (0, 0.0)
    assert np.isnan(alignment.misalignment_px)


def test_a_dark_rgb_image_is_refused(luma):
    alignment = offer(AlignmentEstimator(background=False), seen_by_thermal(luma), luma * 0.01)
    assert alignment.state == "refused"
    assert "RGB image is nearly of one grey level" in alignment.reason


def test_a_scene_that_repeats_itself_is_ambiguous():
    x, y = np.meshgrid(np.arange(640), np.arange(480))
    fence = ((np.sin(x * np.pi / 8) > 0.6) | (np.sin(y * np.pi / 8) > 0.6)).astype(np.float32)  # every 16 px
    alignment = offer(AlignmentEstimator(background=False), seen_by_thermal(fence), fence)
    assert alignment.state == "refused"
    assert "repeats itself" in alignment.reason


def test_a_monitor_measures_and_leaves_alone(luma):
    estimator = AlignmentEstimator(AlignmentConfig(correct=False), background=False)
    alignment = offer(estimator, seen_by_thermal(luma, shifted(8)), luma, 30)
    assert alignment.misalignment_px == pytest.approx(8, abs=0.7)
    assert alignment.state == "misaligned"
    assert "px apart" in alignment.reason
    assert (alignment.updates, alignment.homography) == (0, tuple(np.eye(3).ravel()))


def test_a_settled_image_never_jumps(luma):
    seen = []
    estimator = AlignmentEstimator(EVERY_PAIR, lambda found, _: seen.append(found), background=False)
    offer(estimator, seen_by_thermal(luma, shifted(6)), luma, 10)
    settled = len(seen)
    alignment = offer(estimator, seen_by_thermal(luma, shifted(9)), luma, 20)
    corners = corner_pixels(SIZE)
    moved = [homography_points(np.linalg.inv(each), corners)[0] for each in seen[settled - 1 :]]
    steps = [np.linalg.norm(second - first, axis=1).max() for first, second in pairwise(moved)]
    assert len(steps) > 2
    assert max(steps) < 1.01
    assert corner_error(applied(alignment), shifted(9), SIZE) < 1.5


def test_a_moment_that_contradicts_is_not_followed_and_a_lasting_change_is(luma):
    estimator = AlignmentEstimator(EVERY_PAIR, background=False)
    settled = offer(estimator, seen_by_thermal(luma), luma, 8)
    knocked = seen_by_thermal(luma, shifted(14))
    held, lasting = [], settled
    for _ in range(25):
        lasting = offer(estimator, knocked, luma)
        if "contradicts" in lasting.reason:
            held.append(lasting)
    assert len(held) == 2
    assert len({each.homography for each in held}) == 1
    assert corner_error(applied(held[0]), applied(settled), SIZE) < 1.0
    assert {each.state for each in held} == {"refused"}
    assert corner_error(applied(lasting), shifted(14), SIZE) < 2.0
    assert lasting.state == "aligned"


def test_other_sizes_begin_anew(luma):
    estimator = AlignmentEstimator(EVERY_PAIR, background=False)
    assert offer(estimator, seen_by_thermal(luma, shifted(8)), luma, 3).updates == 1
    small = cv2.resize(luma, (320, 240), interpolation=cv2.INTER_AREA)
    alignment = offer(estimator, seen_by_thermal(small, shifted(3)), small, 3)
    assert alignment.estimates == 3
    assert corner_error(applied(alignment), shifted(3), (240, 320)) < 1.0


def test_pairs_are_looked_at_rarely_once_settled(luma):
    estimator = AlignmentEstimator(AlignmentConfig(every=2, every_settled=10), background=False)
    thermal = seen_by_thermal(luma)

    def view(size):
        return *(cv2.resize(each, size[::-1], interpolation=cv2.INTER_AREA) for each in (thermal, luma)), None

    taken = [index for index in range(60) if estimator.offer(view, SIZE)]
    assert taken[:3] == [0, 2, 4]
    assert set(np.diff(taken)[-3:]) == {10}


def test_an_estimate_never_holds_the_stream_up(luma):
    """While a pair is being looked at others pass; each is gone in no time, however long that one takes."""
    estimator, go_on, others = AlignmentEstimator(EVERY_PAIR), threading.Event(), set(threading.enumerate())

    def slow(size):
        go_on.wait(10)
        return *(cv2.resize(each, size[::-1], interpolation=cv2.INTER_AREA) for each in (luma, luma)), None

    began = time.perf_counter()
    taken = [estimator.offer(slow, SIZE) for _ in range(50)]
    assert time.perf_counter() - began < 1
    assert taken == [True] + [False] * 49
    assert estimator.alignment.state == "measuring"
    go_on.set()
    assert estimator.wait(20)
    assert estimator.alignment.state == "aligned"
    estimator.close()
    assert not estimator.offer(slow, SIZE)
    assert not any(thread.name == "alignment" for thread in set(threading.enumerate()) - others)


def test_a_process_ends_after_the_estimate_that_it_is_in():
    """A thread that is cut off within OpenCV would abort the process."""
    code = """
import time
import numpy as np
from irvf.imaging.alignment import AlignmentEstimator

def view(size):
    time.sleep(0.5)
    print("looked", flush=True)
    plane = np.random.default_rng(0).random(size, dtype=np.float32)
    return plane, plane, None

AlignmentEstimator().offer(view, (480, 640))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - code above
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "looked\n", "")


def test_an_estimate_that_fails_is_said_and_the_next_one_is_made(luma):
    estimator = AlignmentEstimator(EVERY_PAIR)

    def broken(size):
        raise ZeroDivisionError("no such lens")

    estimator.offer(broken, SIZE)
    assert estimator.wait(10)
    assert estimator.alignment.state == "refused"
    assert "no such lens" in estimator.alignment.reason
    offer(estimator, seen_by_thermal(luma), luma)
    assert estimator.wait(20)
    assert estimator.alignment.state == "aligned"
    estimator.close()


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1000}, {"every": 0}, {"largest_step": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match="alignment"):
        AlignmentConfig(**wrong)


@pytest.fixture
def pairs(luma, tmp_path):
    """A set of two aligned pairs."""
    for index, image in enumerate((luma, luma[:, ::-1])):
        for kind, plane in (("thermal", seen_by_thermal(image)), ("rgb", image)):
            folder = tmp_path / "street" / kind
            folder.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / f"{index}.png"), np.round(plane * 255).astype(np.uint8))
    return tmp_path


def test_aligned_pairs_measure_the_method(pairs):
    runs = measure_registration(find_pairs(pairs), frames=9, corner_px=10, sequences=1, seed=2)
    assert [run.kind for run in runs] == ["one pair repeated"] * 2 + ["pairs in turn"]
    for run in runs:
        assert run.before > 4
        assert run.after < 2.0
        assert run.repeated < 2.0
        assert not run.refused
    assert registration_table(runs).splitlines()[1].split()[:5] == ["street", "one", "pair", "repeated", "2"]


def test_the_command_prints_the_table_and_writes_the_figures(pairs, tmp_path, capsys):
    parser = register.argparse.ArgumentParser()
    register.add_command(parser.add_subparsers())
    output = tmp_path / "out" / "streams.csv"
    given = ["--data", str(pairs), "--frames", "5", "--sequences", "0", "--output", str(output)]
    arguments = parser.parse_args(["register", *given])
    assert arguments.run(arguments) == 0
    assert "one pair repeated" in capsys.readouterr().out
    assert len(output.read_text("utf-8").splitlines()) == 3
    arguments.frames = 0
    with pytest.raises(ValueError, match="--frames 0"):
        arguments.run(arguments)
