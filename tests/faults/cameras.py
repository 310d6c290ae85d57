"""Two cameras whose frames go through a fault on their way, and the record of all that was sent."""

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from irvf_fusion_node.camera_messages import street_messages, with_stamp

NAMESPACE = "/fusion"
THERMAL_SIZE, RGB_SIZE = (320, 240), (640, 480)
STREAMS = ("thermal", "rgb")
RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
_NOISES = 8


@dataclass
class Frame:
    """One frame that is about to be sent: ``data`` is a serialised image, or a message; ``fault`` names what it has."""

    stream: str
    stamp: int
    data: object
    fault: str = ""


class Cameras:
    """Plays both streams in a thread of its own until it is closed.

    A fault is a function of a frame that returns the frames to be sent in its place; None is none.
    """

    def __init__(self, node, rate):
        self._node = node
        self.rate = rate
        self.rates = dict.fromkeys(STREAMS, rate)
        self.fault = None
        self.sent = Counter()  # messages, by stream
        self.faulty = Counter()  # by stream and fault
        self.faulty_stamps = {}  # (stream, stamp) -> fault
        self.good = {stream: {} for stream in STREAMS}  # stamp -> monotonic time at which it was sent
        self.info = None  # what is sent beside each RGB frame
        self._epoch = time.time_ns() - time.monotonic_ns()
        pairs = street_messages(THERMAL_SIZE, RGB_SIZE)
        self.pictures = {"thermal": [pair[0] for pair in pairs], "rgb": [pair[1] for pair in pairs]}
        rng = np.random.default_rng(0)
        width, height = THERMAL_SIZE
        self._noises = [rng.integers(0, 12, width * height).astype(np.uint16) for _ in range(_NOISES)]
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._paused = threading.Event()
        self._ended = threading.Event()
        self._publishers = {}
        for stream in STREAMS:
            self.connect(stream)
        compressed = f"{NAMESPACE}/rgb/image_raw/compressed"
        self.compressed = node.create_publisher(CompressedImage, compressed, RELIABLE)
        self._info_publisher = node.create_publisher(CameraInfo, f"{NAMESPACE}/rgb/camera_info", RELIABLE)
        self._thread = threading.Thread(target=self._play, name="cameras", daemon=True)
        self._thread.start()

    def connect(self, stream):
        with self._lock:
            topic = f"{NAMESPACE}/{stream}/image_raw"
            self._publishers[stream] = self._node.create_publisher(Image, topic, RELIABLE)

    def disconnect(self, stream):
        """Stop a stream as a driver that ends does."""
        with self._lock:
            self._node.destroy_publisher(self._publishers.pop(stream))

    def is_heard(self):
        with self._lock:
            return len(self._publishers) == 2 and all(p.get_subscription_count() for p in self._publishers.values())

    def pause(self):
        """Send nothing from now on."""
        self._paused.set()
        with self._lock:
            pass

    def resume(self):
        self._paused.clear()

    def close(self):
        self._ended.set()
        self._thread.join(10)

    def picture(self, stream, number, stamp):
        """Return a serialised good image."""
        pictures = self.pictures[stream]
        data = bytearray(with_stamp(pictures[number % len(pictures)], stamp))
        noise = self._noises[number % _NOISES]
        if stream == "thermal":
            pixels = np.frombuffer(memoryview(data)[-2 * noise.size :], np.uint16)
            pixels += np.roll(noise, number)
        else:
            pixels = np.frombuffer(memoryview(data)[-3 * RGB_SIZE[0] * 40 :], np.uint8)
            pixels ^= np.roll(noise, number)[: pixels.size].astype(np.uint8) & 3
        return bytes(data)

    def message(self, frame):
        """Return a frame's message, to be spoilt."""
        return deserialize_message(frame.data, Image) if isinstance(frame.data, bytes) else frame.data

    def send(self, frame):
        with self._lock:
            publisher = self._publishers.get(frame.stream)
            if publisher is None or self._ended.is_set():
                return
            publisher.publish(frame.data)
            self.sent[frame.stream] += 1
            if frame.fault:
                self.faulty[frame.stream, frame.fault] += 1
                self.faulty_stamps[frame.stream, frame.stamp] = frame.fault
            else:
                self.good[frame.stream][frame.stamp] = time.monotonic()
            if frame.stream == "rgb" and self.info is not None:
                self._info_publisher.publish(self.info)

    def _play(self):
        due = dict.fromkeys(STREAMS, time.monotonic_ns())
        while not self._ended.is_set():
            stream = min(STREAMS, key=due.get)
            ahead = due[stream] - time.monotonic_ns()
            if ahead > 0:
                self._ended.wait(ahead / 1e9)
            elif ahead < -500_000_000:  # held up: nothing is made up for
                due = dict.fromkeys(STREAMS, time.monotonic_ns())
                continue
            with self._lock:
                if not self._paused.is_set():
                    self._send_through_fault(stream, self._epoch + due[stream])
            period = round(1e9 / self.rates[stream])
            due[stream] = (due[stream] // period + 1) * period  # both in step, whatever their rates were meanwhile

    def _send_through_fault(self, stream, stamp):
        number = next(self._numbers) // 2
        frame = Frame(stream, stamp, self.picture(stream, number, stamp))
        fault = self.fault
        for each in [frame] if fault is None else fault(frame):
            self.send(each)
