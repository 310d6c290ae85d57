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
from .calibration_board import (
    DEFAULT_SIZES,
    RGB_LENSES,
    TARGETS,
    TEXEL_M,
    THERMAL_LENSES,
    BoardView,
    Lens,
    board_texture,
    project,
)
from .config import RigConfig
from .geometry import rgb_camera, thermal_camera, thermal_to_rgb
from .sensors import RgbSensor, ThermalSensor
from .textures import NoiseTextures

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

HEAT_SPREAD_M = 0.0015  # standard deviation: heat flows sideways in the sheet
ROOM_C, WHITE_C, BLACK_C = 22.0, 31.0, 35.0  # black ink takes up more of a lamp's light than white paper
DISTANCES_M = (0.65, 1.5)
MOST_TILT_DEG = 38.0


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

    def texture(self) -> tuple[Array32, Array]:
        """Draw the board; see :func:`simulated_rig.calibration_board.board_texture`."""
        return board_texture(self.target, self.size, self.cell_m, self.spacing)


def board_poses(config: TargetConfig) -> list[tuple[Array, Array]]:
    """Choose poses in which both cameras see the whole board: spread over the thermal image, near and far, tilted."""
    generator = np.random.default_rng([config.rig.seed, 909])
    texture, corner = config.texture()
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
        self._texture, self._corner = config.texture()
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
