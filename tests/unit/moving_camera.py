"""What two cameras on one hand-held mount see of a street that stands still."""

import cv2
import numpy as np
from simulated_rig import RigConfig, SimulatedRig

from irvf.frames import Frame

RATE = 1000  # of the angles, per second
START = 1_700_000_000.0
RGB_SIZE, THERMAL_SIZE = (288, 216), (224, 176)


def hand_held(seed, seconds, deg_s=4.0):
    """Yaw, pitch and roll in rad, ``[n x 3]``: speeds of ``deg_s`` root mean square, mostly below 3 Hz."""
    generator = np.random.default_rng(seed)
    count = round(seconds * RATE)
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    share = np.where(frequency > 0, 1 / np.hypot(1, frequency / 0.4) / (1 + (frequency / 3) ** 4), 0)
    angles = []
    for part in (1.0, 0.7, 0.6):
        spectrum = (generator.normal(size=frequency.size) + 1j * generator.normal(size=frequency.size)) * share
        # Integrated in the spectrum, and without what would carry the camera away.
        turned = np.where(frequency > 0.15, spectrum / (2j * np.pi * np.maximum(frequency, 0.1)), 0)
        scale = part * np.radians(deg_s) / np.fft.irfft(spectrum, count).std()
        angles.append(np.fft.irfft(turned, count) * scale)
    return np.stack(angles, axis=1)


def turned_view(picture, angles, focal, size):
    """The middle of a picture, seen by a camera turned by yaw, pitch and roll."""
    turn, _ = cv2.Rodrigues(np.array([angles[1], angles[0], angles[2]], np.float64))
    height, width = picture.shape[:2]
    before = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    after = np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    homography = before @ turn @ np.linalg.inv(after)
    return cv2.warpPerspective(picture, homography, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)


class MovingRig:
    """The simulated rig's pictures of one moment, seen while both cameras turn together.

    Thermal stamps are late by ``delay`` seconds. Each frame has its own noise, the thermal ones their columns as well.
    """

    def __init__(self, light="day", seed=2):
        rig = SimulatedRig(RigConfig(seed=seed, light=light, rgb_width=384, rgb_height=288, supersampling=1))
        sample = rig.sample(0)
        self.rgb_picture, self.thermal_picture = sample.rgb, sample.thermal
        self.rgb_focal = rig.rgb_camera.matrix[0, 0]
        self.thermal_focal = rig.thermal_camera.matrix[0, 0]

    def frames(self, angles, seconds, *, delay=0.0, hz=(9, 30), jitter=0.001, thermal_turned_over=False, seed=0):
        """Return thermal and RGB frames."""
        generator = np.random.default_rng(seed)
        columns = generator.normal(size=(1, THERMAL_SIZE[0])) * 3.5

        def moments(rate):
            ideal = np.arange(generator.random() / rate, seconds, 1 / rate)
            return np.clip(ideal + generator.normal(size=ideal.size) * jitter, 0, seconds - 0.002)

        thermal, rgb = [], []
        for moment in moments(hz[0]):
            view = turned_view(self.thermal_picture, angles[round(moment * RATE)], self.thermal_focal, THERMAL_SIZE)
            counts = view + columns + generator.normal(size=view.shape) * 5
            image = np.rint(counts).astype(np.uint16)
            image = np.ascontiguousarray(image[::-1, ::-1]) if thermal_turned_over else image
            thermal.append(Frame(image, "mono16", round((START + moment + delay) * 1e9)))
        for moment in moments(hz[1]):
            view = turned_view(self.rgb_picture, angles[round(moment * RATE)], self.rgb_focal, RGB_SIZE)
            noise = generator.normal(size=view.shape[:2])[..., None] * 3
            rgb.append(Frame(np.clip(view + noise, 0, 255).astype(np.uint8), "rgb8", round((START + moment) * 1e9)))
        return thermal, rgb
