"""Transitions at random moments, models that vanish, disks that are full, engines that fail, odd subscribers."""

import array
import os
import shutil
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import rclpy
from cameras import NAMESPACE, RELIABLE
from faults import Injected, fault
from node_under_test import NoAnswerError
from rclpy.context import Context
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from irvf_msgs.msg import FusionStatus

MAKING = 20.0
"""Seconds for an inference that never returns: its timeout, and a new pipeline, on a machine with other work."""


@fault("transitions at random moments")
def transitions(trial):
    count, problems = 0, []
    end = time.monotonic() + trial.seconds
    while time.monotonic() < end:
        wanted = trial.rng.choice([*["deactivate", "activate"] * 4, "cleanup", "configure"])
        trial.node.try_change_state(wanted, 1.0 if wanted != "configure" else 30.0)
        count += 1
        trial.sleep(trial.rng.choice([0.0, 0.02, 0.3]))
    problems += [] if trial.node.bring_up() else [f"it cannot be brought up again: {trial.node.tail()[-300:]}"]
    return Injected(count, is_lossless=False, problems=problems)


@fault("deactivate and activate")
def toggle(trial):
    count = 0
    end = time.monotonic() + trial.seconds
    while time.monotonic() < end:
        trial.node.change_state("deactivate")
        trial.sleep(trial.rng.uniform(0, 0.2))
        trial.node.change_state("activate")
        trial.sleep(trial.rng.uniform(0, 0.4))
        count += 2
    return Injected(count, is_lossless=False)


def reconfigure(trial, **parameters):
    """Take the node down and up again with other parameters; return what failed."""
    for transition in ("deactivate", "cleanup"):
        if not trial.node.change_state(transition):
            return [f"{transition} failed: {trial.node.tail()[-300:]}"]
    problems = [each.reason for each in trial.node.set_parameters(**parameters) if not each.successful]
    return problems if trial.node.bring_up() else [*problems, f"it cannot be brought up: {trial.node.tail()[-300:]}"]


def compress(trial, frame):
    """Return an RGB frame as a compressed image, with or without a fault, and the name of that."""
    image = trial.cameras.message(frame)
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    data = cv2.imencode(".jpg", pixels[:, :, ::-1])[1].tobytes()
    message = CompressedImage(header=image.header, format="rgb8; jpeg compressed bgr8")
    kind = trial.rng.choice(["", "", "refused.format", "refused.truncated"])
    if kind == "refused.format":
        data = b"\x01" + trial.rng.randbytes(5000)
    elif kind == "refused.truncated":
        data = data[: trial.rng.choice([0, 1, 100, len(data) // 2])]
    message.data = array.array("B", data)
    return message, kind


@fault("compressed images, some of them malformed", needs="rgb.transport")
def compressed(trial):
    problems = reconfigure(trial, **{"rgb.transport": "compressed"})
    sent, good = Counter(), []
    trial.node.wait_for(trial.cameras.compressed.get_subscription_count, 5.0)

    def send(frame):
        if frame.stream != "rgb":
            return [frame]
        message, kind = compress(trial, frame)
        trial.cameras.compressed.publish(message)
        sent[kind] += 1
        if kind:
            trial.cameras.faulty_stamps["rgb", frame.stamp] = kind
        else:
            trial.cameras.good["rgb"][frame.stamp] = time.monotonic()
            good.append(frame.stamp)
        return []

    trial.through(send, max(2.0, trial.seconds))
    trial.sleep(0.5)
    fused = sum(map(trial.node.is_correct, good))
    outcomes = [trial.node.statuses[stamp].outcome for stamp in good if stamp in trial.node.statuses]
    if not fused or FusionStatus.REFUSED in outcomes:
        problems.append(f"of {len(good)} good compressed images {fused} were fused, the outcomes are {outcomes}")
    problems += reconfigure(trial, **{"rgb.transport": "raw"})
    expected = Counter({f"rgb {kind}": n for kind, n in sent.items() if kind.startswith("refused")})
    note = f"{fused} of {len(good)} good ones fused"
    return Injected(sum(expected.values()), expected, is_lossless=False, problems=problems, note=note)


@fault("model file deleted")
def model_deleted(trial):
    models = trial.node.folder / "models"
    name = trial.rng.choice(["realtime", "detector", "segmentation", "saliency"])
    away = trial.node.folder / "away"
    shutil.copytree(models / name, away)
    problems = []
    try:
        for file in (models / name).glob("*.onnx"):
            file.unlink()
        begin = time.monotonic()
        trial.sleep(min(trial.seconds, 2.0))
        if trial.node.correct_since(begin) is None:
            problems.append(f"without the file of {name} the node that runs gives no correct output")
        trial.node.change_state("deactivate")
        trial.node.change_state("cleanup")
        if trial.node.change_state("configure"):
            problems.append(f"configure without the file of {name} succeeds")
        elif trial.node.state() != "unconfigured":
            problems.append(f"after the failed configure it is {trial.node.state()}")
        said = trial.node.wait_for(
            lambda: any("cannot configure" in text for text in trial.node.diagnostics[-1].messages.values()), 3.0
        )
        problems += [] if said else ["diagnostics do not say why configure failed"]
    finally:
        for file in away.glob("*.onnx"):
            shutil.copy(file, models / name / file.name)
        shutil.rmtree(away)
    if not trial.node.bring_up():
        problems.append(f"it cannot be brought up again: {trial.node.tail()[-300:]}")
    return Injected(1, Counter({"configure.failed": 1}), is_lossless=False, problems=problems, note=name)


def fill(folder):
    """Write until the disk is full."""
    try:
        with (folder / "filler").open("wb") as file:
            while True:
                file.write(b"\0" * 4096)
                file.flush()
    except OSError:
        pass


class SmallDisks:
    """Tiny file systems, where mounting is allowed; else folders that cannot be written to."""

    def __init__(self, folder):
        self.mounted = []
        self.is_real = True
        for name, size in (("log", "2m"), ("cache", "64k")):
            path = folder / name
            path.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "irvf_faults", str(path)]
            if os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0:  # noqa: S603
                self.mounted.append(path)
            else:
                self.is_real = False

    def close(self):
        for path in self.mounted:
            subprocess.run(["umount", "-l", str(path)], check=False)  # noqa: S603, S607


@fault("full disk for the engine cache and the logs")
def full_disk(trial):
    log, cache = trial.node.folder / "log", trial.node.folder / "cache"
    is_real = os.path.ismount(cache)
    if is_real:
        fill(log)
        fill(cache)
    else:
        cache.chmod(0o500)
    problems = []
    try:
        trial.node.change_state("deactivate")
        trial.node.change_state("cleanup")
        for result in trial.node.set_parameters(engine_cache=str(cache / "engines")):
            problems += [] if result.successful else [f"engine_cache refused: {result.reason}"]
        if not trial.node.bring_up():
            problems.append(f"with a full disk it cannot be brought up: {trial.node.tail()[-300:]}")
        for _ in range(50):  # what has to be logged
            trial.node.set_instruction("\u2603 nonsense")
        trial.node.set_instruction("detection")
    finally:
        for folder in (log, cache):
            Path(folder / "filler").unlink(missing_ok=True)
        if not is_real:
            cache.chmod(0o700)
    note = "a tmpfs of 64 kB" if is_real else "a folder that cannot be written to: mounting is not allowed here"
    return Injected(1, is_lossless=False, problems=problems, note=note)


# Engines

ENGINE = "watchdog.timeout"


def break_engine(trial, mode, engine, seconds):
    trial.node.control.write_text(f"{mode} {engine}")
    try:
        trial.sleep(seconds)
    finally:
        trial.node.control.unlink()


@fault("engine raises", needs=ENGINE)
def engine_raises(trial):
    engine = trial.rng.choice(["openvino", "all"])
    known = told(trial)
    break_engine(trial, "raise", engine, trial.seconds)
    trial.node.set_instruction("detection")
    refused = told(trial) - known
    counted = Counter({"pairs.refused.EngineError": refused})
    return Injected(refused, at_least=counted, note=f"{engine} for {trial.seconds:.1f} s")


def told(trial, reason="injected"):
    """Count the pairs whose status gives a reason: what was injected."""
    return sum(reason in status.message for status in list(trial.node.statuses.values()))


@fault("engine raises once in a while", needs=ENGINE)
def engine_flickers(trial):
    known = told(trial)
    end = time.monotonic() + trial.seconds
    while time.monotonic() < end:
        break_engine(trial, "raise", "all", 0.02)
        trial.sleep(trial.rng.uniform(0.05, 0.4))
    refused = told(trial) - known
    return Injected(refused, at_least=Counter({"pairs.refused.EngineError": refused}))


@fault("engine hangs for a while", needs=ENGINE)
def engine_hangs(trial):
    engine, seconds = trial.rng.choice(["openvino", "all"]), trial.rng.choice([0.5, 2.0, 4.0])
    known = told(trial, "inference took more than")
    break_engine(trial, "hang", engine, seconds)
    # How long it waits follows the warm-up, which is slow on a machine with other work: both are right.
    given_up = told(trial, "inference took more than") - known
    how = "given up" if given_up else "waited for"
    return Injected(1, at_least=Counter({"engine.hung": given_up}), note=f"{engine} for {seconds} s, {how}")


# Each costs the node a thread for good, of which it leaves five behind before it asks for a person.
@fault("engine hangs for good", needs=ENGINE, limit=MAKING, most=2)
def engine_lost(trial):
    break_engine(trial, "lose", "all", 0.4)
    return Injected(1, at_least=Counter({"engine.hung": 1}), note="until a new one is made")


# Subscribers


@fault("subscribers come, go, and never read")
def subscribers(trial):
    context = Context()
    rclpy.init(context=context, args=[])
    idle = rclpy.create_node("never_reads", context=context)  # nobody spins it
    kinds = [RELIABLE, QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE), qos_profile_sensor_data]
    count = 0
    try:
        end = time.monotonic() + trial.seconds
        made = []
        while time.monotonic() < end:
            topic = trial.rng.choice(["image", "overlay", "detections", "image", "overlay"])
            if topic != "detections":
                made.append(idle.create_subscription(Image, f"{NAMESPACE}/{topic}", print, trial.rng.choice(kinds)))
                count += 1
            trial.sleep(trial.rng.uniform(0.05, 0.3))
            if made and trial.rng.random() < 0.5:
                idle.destroy_subscription(made.pop())
    finally:
        idle.destroy_node()
        rclpy.shutdown(context=context)
    return Injected(count)


@fault("calls that nobody waits for")
def abandoned_calls(trial):
    count = 0
    end = time.monotonic() + trial.seconds
    while time.monotonic() < end:
        with suppress(NoAnswerError):
            trial.node.set_instruction("viewing", timeout=0.001)
        count += 1
    trial.node.set_instruction("detection")
    return Injected(count)
