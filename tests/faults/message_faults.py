"""Messages that are malformed, and texts and parameters that come in floods."""

import array
import math
import time
from collections import Counter

import numpy as np
from cameras import RGB_SIZE, THERMAL_SIZE, Frame
from faults import Injected, fault
from node_under_test import NODE
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header, String

from irvf_fusion_node.conversions import frame_to_image, ns_to_stamp, stamp_to_ns
from irvf_msgs.msg import FusionStatus


def wrong_encoding(message, rng):
    message.encoding = rng.choice(["", "nonsense", "mono64", "rgb8" * 1000, "\u2603" * 50, "64FC4"])
    return "refused.encoding"


def no_size(message, rng):
    setattr(message, rng.choice(["height", "width"]), 0)
    return "refused.size"


def huge_size(message, rng):
    setattr(message, rng.choice(["height", "width"]), rng.choice([100_000, 2**31, 2**32 - 1]))
    return "refused.size"


def small_step(message, rng):
    message.step = rng.randrange(message.step)
    return "refused.step"


def truncated(message, rng):
    message.data = message.data[: rng.randrange(len(message.data))]
    return "refused.truncated"


def empty(message, rng):
    message.data = array.array("B")
    return "refused.truncated"


SPOIL = (wrong_encoding, no_size, huge_size, small_step, truncated, empty)


@fault("malformed images")
def malformed(trial):
    kinds = trial.rng.choice([SPOIL, (trial.rng.choice(SPOIL),)])
    share = trial.rng.choice([0.2, 0.6, 1.0])

    def spoil(frame):
        if trial.rng.random() > share:
            return [frame]
        message = trial.cameras.message(frame)
        reason = trial.rng.choice(kinds)(message, trial.rng)
        return [Frame(frame.stream, frame.stamp, message, reason)]

    sent = trial.through(spoil)
    expected = Counter({f"{stream} {reason}": n for (stream, reason), n in sent.items()})
    return Injected(sum(sent.values()), expected)


def unusable(trial, name, make, reason):
    """Send thermal images that only inference can refuse; each comes out refused, or with RGB alone, or not at all."""
    known = dict(trial.cameras.faulty_stamps)

    def spoil(frame):
        if frame.stream != "thermal" or trial.rng.random() < 0.3:
            return [frame]
        return [Frame("thermal", frame.stamp, make(frame.stamp), name)]

    sent = sum(trial.through(spoil).values())
    trial.sleep(0.7)
    stamps = {stamp for (stream, stamp) in set(trial.cameras.faulty_stamps) - set(known) if stream == "thermal"}
    answered = [each for each in list(trial.node.statuses.values()) if stamp_to_ns(each.thermal_stamp) in stamps]
    outcomes = Counter(status.outcome for status in answered)
    problems = [f"{outcomes[FusionStatus.FUSED]} pairs with them were fused"] if outcomes[FusionStatus.FUSED] else []
    counted = {reason: outcomes[FusionStatus.REFUSED], "pairs.rgb_only": outcomes[FusionStatus.RGB_ONLY]}
    unused = sent - sum(counted.values())
    note = f"of {sent}, {unused} were not paired or superseded"
    return Injected(sent - unused, at_least=Counter(counted), problems=problems, note=note)


@fault("thermal images of NaN")
def not_finite(trial):
    width, height = THERMAL_SIZE
    value = trial.rng.choice([math.nan, math.inf])

    def make(stamp):
        return frame_to_image(np.full((height, width), value, np.float32), "32FC1", header(stamp, "thermal_optical"))

    return unusable(trial, "not finite", make, "pairs.refused.not_finite")


@fault("thermal images of four pixels")
def tiny(trial):
    def make(stamp):
        return frame_to_image(np.full((2, 2), 30000, np.uint16), "mono16", header(stamp, "thermal_optical"))

    return unusable(trial, "tiny", make, "pairs.refused.size")


def header(stamp, frame_id):
    return Header(stamp=ns_to_stamp(stamp), frame_id=frame_id)


@fault("image sizes change")
def sizes(trial):
    sent = [0]

    def resize(frame):
        if trial.rng.random() < 0.5:
            return [frame]
        sent[0] += 1
        width, height = trial.rng.choice([(96, 64), (321, 243), (800, 600), (64, 500)])
        if frame.stream == "thermal":
            pixels = np.random.default_rng(sent[0]).integers(29000, 31000, (height, width)).astype(np.uint16)
            made = frame_to_image(pixels, "mono16", header(frame.stamp, "thermal_optical"))
        else:
            pixels = np.random.default_rng(sent[0]).integers(0, 256, (height, width, 3)).astype(np.uint8)
            made = frame_to_image(pixels, "rgb8", header(frame.stamp, "rgb_optical"))
        return [Frame(frame.stream, frame.stamp, made, "size")]

    trial.through(resize)
    return Injected(sent[0])


@fault("images of random pixels")
def noise(trial):
    def spoil(frame):
        data = bytearray(frame.data)
        width, height = THERMAL_SIZE if frame.stream == "thermal" else RGB_SIZE
        count = width * height * (2 if frame.stream == "thermal" else 3)
        data[-count:] = trial.rng.randbytes(count)
        return [Frame(frame.stream, frame.stamp, bytes(data), "random pixels")]

    return Injected(sum(trial.through(spoil).values()))


@fault("messages that are no images at all")
def garbage(trial):
    def spoil(frame):
        if trial.rng.random() < 0.5:
            return [frame]
        cut = trial.rng.choice([frame.data[: trial.rng.randrange(8, 200)], trial.rng.randbytes(5000)])
        return [Frame(frame.stream, frame.stamp, b"\x00\x01\x00\x00" + cut[4:], "garbage")]

    sent = trial.through(spoil)
    return Injected(sum(sent.values()), is_lossless=False, note="the middleware refuses them; the log says so")


@fault("camera_info nonsense")
def camera_info(trial):
    kinds = [
        CameraInfo(),
        CameraInfo(width=RGB_SIZE[0], height=RGB_SIZE[1], k=[math.nan] * 9),
        CameraInfo(width=RGB_SIZE[0], height=RGB_SIZE[1], distortion_model="?" * 5000, d=[1e300] * 1000),
        CameraInfo(width=2**32 - 1, height=1, k=[1e308] * 9, p=[-math.inf] * 12),
        CameraInfo(width=320, height=240, k=[0.0] * 9),
    ]

    sent = [0]

    def with_info(frame):
        sent[0] += frame.stream == "rgb"
        trial.cameras.info = trial.rng.choice(kinds)
        trial.cameras.info.header.stamp = ns_to_stamp(frame.stamp)
        return [frame]

    trial.through(with_info)
    trial.cameras.info = None
    return Injected(sent[0])


# Instructions and parameters

VALID = ("detection", "viewing", "find the people", "segmentation", "what stands out?", "show me the cars")


def random_text(rng, length):
    return "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xA0, 0xD7FF)])) for _ in range(length))


def flood_of_texts(trial, make, rate):
    sent = 0
    end = time.monotonic() + trial.seconds
    while time.monotonic() < end:
        trial.node.check_alive()
        trial.node.instruction.publish(String(data=make()))
        sent += 1
        time.sleep(1 / rate)
    for _ in range(20):
        answer, took = trial.node.set_instruction("detection")
        if not answer.message.startswith("not read"):  # else texts of the flood were still on their way
            break
    problems = [] if answer.accepted else [f"a good instruction was refused after the flood: {answer.message}"]
    note = f"{rate} a second; the next good one answered after {took * 1e3:.0f} ms"
    fates = ("instruction.accepted", "instruction.refused", "instruction.not_read")
    return Injected(sent, together=fates, problems=problems, note=note)


@fault("flood of random texts")
def random_texts(trial):
    return flood_of_texts(trial, lambda: random_text(trial.rng, trial.rng.randrange(200)), 300)


@fault("texts of one megabyte")
def long_texts(trial):
    texts = ["x" * 1_000_000, "find people " * 80_000, "\u2603" * 300_000, "brighter " * 100_000]
    return flood_of_texts(trial, lambda: trial.rng.choice(texts), 10)


@fault("flood of good and bad instructions")
def mixed_texts(trial):
    texts = [*VALID, "", " ", "\n", "fly to the moon", "%s%s%n", "../../etc/passwd", "'; DROP TABLE", "\x1b[2J"]
    return flood_of_texts(trial, lambda: trial.rng.choice(texts), 400)


@fault("flood of parameter changes")
def parameter_flood(trial):
    good = {
        "detection.score_threshold": lambda: trial.rng.uniform(0.1, 0.9),
        "thermal.smoothing": lambda: trial.rng.uniform(0, 5),
        "thermal.low_percentile": lambda: trial.rng.uniform(0, 10),
        "detection.every": lambda: trial.rng.randint(1, 5),
        "processing_scale": lambda: trial.rng.choice([0.3, 0.5, 1.0]),
        "thermal.range": lambda: trial.rng.choice(["auto", "percentile"]),
    }
    bad = [
        ("detection.score_threshold", math.nan),
        ("detection.score_threshold", 7.0),
        ("detection.every", 0),
        ("detection.every", "x" * 10_000),
        ("thermal.range", "nonsense"),
        ("processing_scale", -1.0),
        ("registration.homography", [math.nan] * 9),
        ("registration.homography", [1.0, 2.0]),
        ("model", "no_such_model"),
        ("no.such.parameter", 1),
    ]
    futures, problems = [], []
    end = time.monotonic() + trial.seconds
    while time.monotonic() < end:
        is_good = trial.rng.random() < 0.5
        name, value = trial.rng.choice(bad)
        if is_good:
            name = trial.rng.choice(list(good))
            value = good[name]()
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        futures.append((is_good, name, value, trial.node.begin_call(SetParameters, f"{NODE}/set_parameters", request)))
        time.sleep(0.01)
    trial.node.wait_for(lambda: all(future.done() for *_, future in futures), 5.0)
    refused = 0
    for is_good, name, value, future in futures:
        if not future.done():
            problems.append(f"no answer to {name} = {value!r:.40}")
            continue
        result = future.result().results[0]
        refused += not result.successful
        if result.successful != is_good:
            problems.append(f"{name} = {value!r:.40}: successful is {result.successful} ({result.reason:.200})")
    back = {"detection.score_threshold": 0.35, "thermal.smoothing": 2.0, "thermal.low_percentile": 1.0}
    back |= {"detection.every": 1, "processing_scale": 1.0, "thermal.range": "auto"}
    last = trial.node.set_parameters(**back)
    problems += [f"a good parameter was refused after the flood: {each.reason}" for each in last if not each.successful]
    return Injected(len(futures), problems=problems[:5], note=f"{refused} refused, each answered with its reason")
