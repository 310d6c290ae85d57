"""A calibration target before both cameras of the rig, with lenses that may distort: the truth for ``irvf calibrate``.

``python -m simulated_rig.calibration_target OUT.mcap --target chessboard`` writes a recording and, beside it, the true
geometry as JSON. A person holds the board still for a moment in each of many poses and moves it in between.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from irvf.bags import create_bag

from .bag import RGB_FRAME, RGB_TOPIC, THERMAL_FRAME, THERMAL_TOPIC, _camera_info, _header, _image
from .config import RigConfig
from .geometry import PinholeCamera, rgb_camera, thermal_camera, thermal_to_rgb
from .sensors import RgbSensor, ThermalSensor
from .textures import NoiseTextures

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

TARGETS = ("chessboard", "circles", "aprilgrid")
TEXEL_M = 0.0005
HEAT_SPREAD_M = 0.0015  # standard deviation: heat flows sideways in the sheet
ROOM_C, WHITE_C, BLACK_C = 22.0, 31.0, 35.0  # black ink takes up more of a lamp's light than white paper
DISTANCES_M = (0.65, 1.5)
MOST_TILT_DEG = 38.0
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Lens:
    """Distortion as OpenCV defines it: ``plumb_bob`` (k1 k2 p1 p2 k3) or ``equidistant`` (its fisheye, k1 to k4)."""

    model: str = "plumb_bob"
    distortion: tuple[float, ...] = (0.0,) * 5


THERMAL_LENSES = {
    "none": Lens(),
    "plumb_bob": Lens("plumb_bob", (-0.24, 0.08, 0.0006, -0.0004, 0.0)),
    "equidistant": Lens("equidistant", (0.06, -0.02, 0.004, 0.0)),
}
RGB_LENSES = {
    "none": Lens(),
    "plumb_bob": Lens("plumb_bob", (-0.11, 0.04, -0.0003, 0.0005, 0.0)),
    "equidistant": Lens("equidistant", (0.03, -0.01, 0.002, 0.0)),
}


@dataclass(frozen=True)
class TargetConfig:
    """What is recorded; sizes as ``irvf calibrate`` takes them."""

    target: str = "chessboard"
    size: tuple[int, int] = (9, 6)
    cell_m: float = 0.05  # square, circle pitch or edge of a tag
    spacing: float = 0.3  # aprilgrid: gap between tags as a share of the tag
    rig: RigConfig = field(default_factory=lambda: RigConfig(rate_hz=10.0))
    thermal_lens: Lens = THERMAL_LENSES["plumb_bob"]
    rgb_lens: Lens = RGB_LENSES["plumb_bob"]
    views: int = 28
    hold: int = 3  # frames in which the board stands still
    move: int = 2  # frames between two poses; 0: the board stands elsewhere in the next frame
    inverted: bool = False  # black is colder than white: foil that reflects the cold sky, cut-outs before a warm wall
    contrast_k: float = BLACK_C - WHITE_C
    camera_info: tuple[bool, bool] = (False, False)  # whether thermal and RGB CameraInfo carry a calibration
    thermal_gap_ms: float = 11.0  # thermal stamps after those of RGB


DEFAULT_SIZES = {"chessboard": ((9, 6), 0.05), "circles": ((4, 11), 0.04), "aprilgrid": ((6, 6), 0.055)}


def board_texture(config: TargetConfig) -> tuple[Array32, Array]:
    """Draw the printed board, 0 black to 1 white, with a white margin.

    Returns:
        The texture ``[h x w]`` with texels of :data:`TEXEL_M`, and where its first texel's centre lies in the board's
        frame ``[2]``: x right, y down, metres; the origin is the first inner corner, the first circle's centre or the
        lower left corner of tag 0.
    """
    columns, rows = config.size
    cell = round(config.cell_m / TEXEL_M)
    if config.target == "chessboard":
        squares = (np.add.outer(np.arange(rows + 1), np.arange(columns + 1)) % 2).astype(np.float32)
        print_, margin, first = np.kron(squares, np.ones((cell, cell), np.float32)), cell // 2, (cell, cell)
    elif config.target == "circles":
        radius = 0.45 * cell
        y, x = np.mgrid[0 : (rows + 1) * cell, 0 : (2 * columns + 1) * cell].astype(np.float32) + 0.5
        print_ = np.ones(x.shape, np.float32)
        for row in range(rows):
            for column in range(columns):
                distance = np.hypot(x - (2 * column + row % 2 + 1) * cell, y - (row + 1) * cell)
                print_ = np.minimum(print_, np.clip(distance - radius + 0.5, 0, 1))
        margin, first = cell // 2, (cell, cell)
    else:
        print_, first = _aprilgrid(columns, rows, cell, round(cell * config.spacing))
        margin = cell // 4
    texture = np.pad(print_, margin, constant_values=1.0)
    return texture, (0.5 - margin - np.array(first, np.float64)) * TEXEL_M


def _aprilgrid(columns: int, rows: int, tag: int, gap: int) -> tuple[Array32, tuple[int, int]]:
    """Draw Kalibr's AprilGrid: tag36h11 with a border of two bits, ids along x from the lower left, black corners."""
    aruco: Any = cv2.aruco
    dictionary = aruco.getPredefinedDictionary(aruco.DICT_APRILTAG_36h11)
    draw = getattr(aruco, "generateImageMarker", None) or aruco.drawMarker  # OpenCV before 4.7
    pitch = tag + gap
    picture = np.ones((rows * pitch + gap, columns * pitch + gap), np.float32)
    for row in range(rows):
        for column in range(columns):
            number = row * columns + column
            bits = draw(dictionary, number, 10, borderBits=2)
            top, left = gap + (rows - 1 - row) * pitch, gap + column * pitch
            picture[top : top + tag, left : left + tag] = cv2.resize(bits, (tag, tag), interpolation=0) / 255
    for row in range(rows + 1):
        for column in range(columns + 1):
            picture[row * pitch : row * pitch + gap, column * pitch : column * pitch + gap] = 0
    return picture, (gap, rows * pitch)


class BoardView:
    """Draws the board as one camera sees it, before its sensor.

    Args:
        camera: pinhole part.
        lens: distortion.
        rotation: from RGB optical axes to those of the camera ``[3 x 3]``.
        offset: ``X_camera = rotation X_rgb + offset``, metres.
    """

    def __init__(self, camera: PinholeCamera, lens: Lens, rotation: Array, offset: Array) -> None:
        self._camera, self._rotation, self._offset, self._lens = camera, rotation, offset, lens
        # Rays of whole pixels, one more on each side, and between them in proportion: lenses are smooth.
        pixels = np.stack(np.meshgrid(np.arange(-1.0, camera.width + 1), np.arange(-1.0, camera.height + 1)), -1)
        rays = undistorted(pixels.reshape(-1, 2), camera.matrix, lens).reshape(pixels.shape)
        fine = cv2.resize(rays, None, fx=_SUPERSAMPLING, fy=_SUPERSAMPLING, interpolation=cv2.INTER_LINEAR)
        self._rays = fine[_SUPERSAMPLING:-_SUPERSAMPLING, _SUPERSAMPLING:-_SUPERSAMPLING]

    def draw(self, texture: Array32, corner: Array, pose: tuple[Array, Array]) -> tuple[Array32, Array32]:
        """Return the board's brightness and its coverage, each ``[H x W]`` in 0..1.

        Args:
            texture: of :func:`board_texture`.
            corner: likewise.
            pose: rotation vector and translation of the board's frame in RGB optical axes.
        """
        turn = self._rotation @ cv2.Rodrigues(pose[0])[0]
        origin = self._rotation @ pose[1] + self._offset
        plane = np.linalg.inv(np.column_stack((turn[:, 0], turn[:, 1], origin)))
        x, y = self._rays[..., 0], self._rays[..., 1]
        hit = [row[0] * x + row[1] * y + row[2] for row in plane]
        with np.errstate(divide="ignore", invalid="ignore"):
            across = np.where(hit[2] > 0, (hit[0] / hit[2] - corner[0]) / TEXEL_M, -9)
            down = np.where(hit[2] > 0, (hit[1] / hit[2] - corner[1]) / TEXEL_M, -9)
        maps = [np.clip(part, -9, 30000).astype(np.float32) for part in (across, down)]
        seen = cv2.remap(texture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        height, width = texture.shape
        inside = (maps[0] > -0.5) & (maps[0] < width - 0.5) & (maps[1] > -0.5) & (maps[1] < height - 0.5)
        size = (self._camera.width, self._camera.height)
        cover = inside.astype(np.float32)
        brightness = cv2.resize(seen * cover, size, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cover, size, interpolation=cv2.INTER_AREA)
        return np.asarray(brightness / np.maximum(cover, 1e-6)), np.asarray(cover)


def undistorted(pixels: Array, matrix: Array, lens: Lens) -> Array:
    """Return normalised coordinates ``[N x 2]`` of distorted pixels, exact to a thousandth of a pixel where defined."""
    coefficients = np.array(lens.distortion)
    points = np.ascontiguousarray(pixels, np.float64)[:, None]
    if lens.model == "equidistant":
        return np.asarray(cv2.fisheye.undistortPoints(points, matrix, coefficients)).reshape(-1, 2)
    start = (pixels - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]
    guess = start.copy()
    for _ in range(25):  # fixed point: the radial factor changes slowly over the image
        guess += start - _distort(guess, coefficients)
    return guess


def _distort(points: Array, coefficients: Array) -> Array:
    k1, k2, p1, p2, k3 = coefficients
    x, y = points[:, 0], points[:, 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ),
        -1,
    )


def project(points: Array, camera: PinholeCamera, lens: Lens) -> Array:
    """Return the pixels ``[N x 2]`` of points ``[N x 3]`` in the camera's optical axes (OpenCV's definitions)."""
    normal = points[:, :2] / points[:, 2:]
    if lens.model == "equidistant":
        radius = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
        angle = np.arctan(radius)
        powers = angle[:, None] ** np.array([2, 4, 6, 8])
        normal = normal * (angle * (1 + powers @ np.array(lens.distortion)) / radius)[:, None]
    else:
        normal = _distort(normal, np.array(lens.distortion))
    return np.asarray(normal * camera.matrix[[0, 1], [0, 1]] + camera.matrix[:2, 2])


def board_poses(config: TargetConfig) -> list[tuple[Array, Array]]:
    """Choose poses in which both cameras see the whole board: spread over the thermal image, near and far, tilted."""
    generator = np.random.default_rng([config.rig.seed, 909])
    texture, corner = board_texture(config)
    extent = np.array(texture.shape[::-1]) * TEXEL_M
    rim = corner + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * extent
    rim3 = np.column_stack((rim, np.zeros(4)))
    centre = np.append(corner + extent / 2, 0)
    rgb, thermal = rgb_camera(config.rig), thermal_camera(config.rig)
    rotation, offset = thermal_to_rgb(config.rig)
    poses: list[tuple[Array, Array]] = []
    while len(poses) < config.views:
        near, far = DISTANCES_M
        depth = near * (far / near) ** generator.random()
        pixel = generator.random(2) * (thermal.width, thermal.height)
        place = rotation @ (depth * np.append((pixel - thermal.matrix[:2, 2]) / thermal.matrix[0, 0], 1)) + offset
        tilts = np.radians(generator.uniform(-MOST_TILT_DEG, MOST_TILT_DEG, 2))
        roll = math.radians(generator.uniform(-25, 25))
        turn = cv2.Rodrigues(np.array([tilts[0], tilts[1], 0.0]))[0] @ cv2.Rodrigues(np.array([0.0, 0.0, roll]))[0]
        pose = (cv2.Rodrigues(turn)[0].ravel(), place - turn @ centre)
        seen = rim3 @ turn.T + pose[1]
        views = ((seen, rgb, config.rgb_lens), ((seen - offset) @ rotation, thermal, config.thermal_lens))
        if all(
            (project(points, camera, lens) > 3).all()
            and (project(points, camera, lens) < np.array((camera.width, camera.height)) - 4).all()
            for points, camera, lens in views
        ):
            poses.append(pose)
    return poses


class TargetRecording:
    """The frames of a recording of the board, in order."""

    def __init__(self, config: TargetConfig) -> None:
        self.config = config
        rotation, offset = thermal_to_rgb(config.rig)
        self.rgb_camera, self.thermal_camera = rgb_camera(config.rig), thermal_camera(config.rig)
        self.poses = board_poses(config)
        self._texture, self._corner = board_texture(config)
        self._heat = cv2.GaussianBlur(self._texture, (0, 0), HEAT_SPREAD_M / TEXEL_M)
        self._rgb_view = BoardView(self.rgb_camera, config.rgb_lens, np.eye(3), np.zeros(3))
        self._thermal_view = BoardView(self.thermal_camera, config.thermal_lens, rotation.T, -rotation.T @ offset)
        self._rgb_sensor, self._thermal_sensor = RgbSensor(config.rig), ThermalSensor(config.rig)
        textures = NoiseTextures(config.rig.seed)
        self._walls = [
            textures.soft(*np.meshgrid(*(np.arange(n, dtype=np.float32) / camera.width for n in size)), 1.3)
            for camera in (self.rgb_camera, self.thermal_camera)
            for size in [(camera.width, camera.height)]
        ]

    def __len__(self) -> int:
        """Return the number of frames of each camera."""
        return len(self.poses) * (self.config.hold + self.config.move) - self.config.move

    def pose(self, index: float) -> tuple[Array, Array]:
        """Return the board's pose at a frame; between two frames for fractions."""
        period = self.config.hold + self.config.move
        number, phase = divmod(index, period)
        first = self.poses[int(number)]
        share = (phase - (self.config.hold - 1)) / (self.config.move + 1) if self.config.move else 0
        if share <= 0 or number + 1 >= len(self.poses):
            return first
        second = self.poses[int(number) + 1]
        return first[0] + share * (second[0] - first[0]), first[1] + share * (second[1] - first[1])

    def rgb(self, index: int) -> NDArray[np.uint8]:
        """Return the RGB image ``[H x W x 3]``."""
        brightness, cover = self._rgb_view.draw(self._texture, self._corner, self.pose(index))
        light = cover * (0.04 + 0.62 * brightness) + (1 - cover) * (0.22 + 0.05 * self._walls[0])
        return self._rgb_sensor.expose(np.repeat(light[..., None].astype(np.float32), 3, 2), index, 0.3)

    def thermal(self, index: int) -> NDArray[np.uint16]:
        """Return the thermal image ``[H x W]``, counts."""
        gap = self.config.thermal_gap_ms * 1e-3 * self.config.rig.rate_hz
        brightness, cover = self._thermal_view.draw(self._heat, self._corner, self.pose(index + gap))
        share = brightness if self.config.inverted else 1 - brightness
        board = WHITE_C + self.config.contrast_k * share
        celsius = cover * board + (1 - cover) * (ROOM_C + 1.5 * self._walls[1])
        return self._thermal_sensor.expose(celsius.astype(np.float32), index)


def write_target_bag(path: Path | str, config: TargetConfig, *, progress: bool = False) -> dict[str, Any]:
    """Write a recording of the board.

    Args:
        path: as for :func:`simulated_rig.bag.write_bag`.
        config: what is recorded.
        progress: show a progress bar on standard error.

    Returns:
        The truth: ``rotation`` ``[3][3]`` and ``translation`` ``[3]`` of ``X_rgb = R X_thermal + t``, and of
        ``thermal`` and ``rgb`` their ``size``, ``matrix``, ``distortion_model``, ``distortion``, and ``depths``.
    """
    recording = TargetRecording(config)
    types = get_typestore(Stores.ROS2_JAZZY)
    cameras = (recording.thermal_camera, recording.rgb_camera)
    lenses = (config.thermal_lens, config.rgb_lens)
    topics, frames = (THERMAL_TOPIC, RGB_TOPIC), (THERMAL_FRAME, RGB_FRAME)
    with create_bag(Path(path)) as writer:
        connections = {}
        for topic in topics:
            for name, kind in ((topic, "Image"), (topic.replace("image_raw", "camera_info"), "CameraInfo")):
                connections[name] = writer.add_connection(name, f"sensor_msgs/msg/{kind}", typestore=types)
        for index in tqdm(range(len(recording)), "rendering", unit="frame", disable=not progress):
            stamp = config.rig.start_stamp_ns + round(index * 1e9 / config.rig.rate_hz)
            shots = (recording.thermal(index), recording.rgb(index))
            for number in (1, 0):
                taken = stamp + (round(config.thermal_gap_ms * 1e6) if number == 0 else 0)
                header = _header(taken, frames[number])
                image = _image(header, shots[number], ("16UC1", "rgb8")[number])
                info = _camera_info(header, cameras[number])
                info.distortion_model = lenses[number].model
                info.d = np.array(lenses[number].distortion)
                if not config.camera_info[number]:
                    info.k, info.p, info.d = np.zeros(9), np.zeros(12), np.zeros(0)
                for name, message in (
                    (topics[number], image),
                    (topics[number].replace("image_raw", "camera_info"), info),
                ):
                    writer.write(connections[name], taken, types.serialize_cdr(message, message.__msgtype__))
    rotation, offset = thermal_to_rgb(config.rig)
    truth: dict[str, Any] = {"rotation": rotation.tolist(), "translation": offset.tolist()}
    truth["depths"] = [float(pose[1][2]) for pose in recording.poses]
    for name, camera, lens in zip(("thermal", "rgb"), cameras, lenses, strict=True):
        truth[name] = {
            "size": [camera.width, camera.height],
            "matrix": camera.matrix.ravel().tolist(),
            "distortion_model": lens.model,
            "distortion": list(lens.distortion),
        }
    return truth


def main(arguments: list[str] | None = None) -> int:
    """Write a recording of a calibration target; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulated_rig.calibration_target", description=__doc__)
    parser.add_argument("out", type=Path, help="OUT.mcap, OUT.db3 (sqlite3) or a bag folder; replaced if it exists")
    parser.add_argument("--target", choices=TARGETS, default="chessboard")
    parser.add_argument("--views", type=int, default=TargetConfig.views, help="poses (default %(default)s)")
    parser.add_argument("--seed", type=int, default=RigConfig.seed, help="other poses, other noise")
    parser.add_argument("--thermal-lens", choices=THERMAL_LENSES, default="plumb_bob")
    parser.add_argument("--rgb-lens", choices=RGB_LENSES, default="plumb_bob")
    parser.add_argument("--inverted", action="store_true", help="black is colder than white")
    parser.add_argument("--contrast", type=float, default=TargetConfig.contrast_k, help="kelvin (default %(default)s)")
    parser.add_argument("--camera-info", action="store_true", help="camera_info of both cameras carries their truth")
    chosen = parser.parse_args(arguments)
    size, cell = DEFAULT_SIZES[chosen.target]
    config = TargetConfig(
        target=chosen.target,
        size=size,
        cell_m=cell,
        rig=replace(RigConfig(rate_hz=10.0), seed=chosen.seed),
        thermal_lens=THERMAL_LENSES[chosen.thermal_lens],
        rgb_lens=RGB_LENSES[chosen.rgb_lens],
        views=chosen.views,
        inverted=chosen.inverted,
        contrast_k=chosen.contrast,
        camera_info=(chosen.camera_info,) * 2,
    )
    truth = write_target_bag(chosen.out, config, progress=True)
    file = chosen.out.with_suffix(".truth.json")
    file.write_text(json.dumps(truth, indent=1), encoding="utf-8")
    sys.stdout.write(f"{chosen.out}: {chosen.target}, {chosen.views} poses\n{file}: the true geometry\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
