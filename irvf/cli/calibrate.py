"""``irvf calibrate``: lenses and pose of the two cameras from a recording of a board that both see."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from irvf.calibration.adjustment import RGB, THERMAL, rms
from irvf.calibration.files import write_files
from irvf.calibration.picture import draw_calibration
from irvf.calibration.recording import read_streams
from irvf.calibration.solve import Calibration, Wanted, calibrate
from irvf.calibration.targets import DEFAULT_SIZES, TARGET_NAMES, make_target
from irvf.calibration.views import find_views
from irvf.cli.arguments import image_size

_MODELS = {"plumb_bob": "plumb_bob", "fisheye": "equidistant", "equidistant": "equidistant"}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf calibrate``."""
    parser = commands.add_parser(
        "calibrate", help="calibrate thermal and RGB camera from a recording", description=__doc__
    )
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3 file with both image topics")
    parser.add_argument("--target", choices=TARGET_NAMES, required=True, help="what was held before the cameras")
    usual = ", ".join(f"{name} {columns}x{rows}" for name, (columns, rows) in DEFAULT_SIZES.items())
    parser.add_argument(
        "--size", type=image_size, metavar="COLUMNSxROWS", help=f"inner corners, circles or tags (default: {usual})"
    )
    parser.add_argument(
        "--square",
        type=float,
        default=0.0,
        metavar="METRES",
        help="chessboard: side of a square; circles: half the distance of two circles in a row",
    )
    parser.add_argument("--tag", type=float, default=0.0, metavar="METRES", help="aprilgrid: outer side of a tag")
    parser.add_argument(
        "--spacing", type=float, default=0.3, help="aprilgrid: gap between tags as a share of the tag (default: 0.3)"
    )
    parser.add_argument("--output", type=Path, default=Path("calibration"), help="folder (default: calibration)")
    parser.add_argument("--thermal-topic", help="default: chosen by name")
    parser.add_argument("--rgb-topic", help="default: chosen by name")
    for camera in ("thermal", "rgb"):
        parser.add_argument(
            f"--{camera}-model", choices=_MODELS, default="plumb_bob", help="lens, where camera_info has none"
        )
    parser.add_argument("--recalibrate", action="store_true", help="find the lenses even where camera_info has them")
    parser.add_argument("--homography", action="store_true", help="find a homography only: everything in one plane")
    parser.add_argument(
        "--distance", type=float, metavar="METRES", help="of the scene, for the node (default: median of the board's)"
    )
    parser.add_argument("--max-gap", type=float, default=0.1, help="seconds between stamps of a pair (default: 0.1)")
    parser.add_argument("--max-pairs", type=int, default=120, help="pairs of frames that are searched (default: 120)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate and write."""
    distance = arguments.distance
    if distance is not None and not distance > 0:
        raise ValueError(f"--distance {distance} must be above 0 metres; inf for far away")
    if not (math.isfinite(arguments.max_gap) and 0 < arguments.max_gap <= 10) or arguments.max_pairs < 3:
        raise ValueError(
            f"--max-gap must be above 0 and at most 10 s, --max-pairs at least 3, not {arguments.max_gap} and "
            f"{arguments.max_pairs}"
        )
    target = make_target(arguments.target, arguments.size, arguments.square, arguments.tag, arguments.spacing)
    streams = read_streams(arguments.bag, arguments.thermal_topic, arguments.rgb_topic)
    for name, stream in zip(("thermal", "RGB"), streams, strict=True):
        height, width = stream.size
        print(f"{name} {stream.topic}: {len(stream.stamps)} images of {width} x {height}; {stream.said}")
    views, looked_at = find_views(
        arguments.bag,
        streams,
        target,
        most=arguments.max_pairs,
        max_gap=arguments.max_gap,
        progress=lambda pairs, number: tqdm(
            pairs, desc=str(target), total=number, unit="pair", disable=not sys.stderr.isatty()
        ),
    )
    cameras = (None, None) if arguments.recalibrate else (streams[THERMAL].camera, streams[RGB].camera)
    calibration = calibrate(
        views,
        looked_at,
        target,
        (streams[THERMAL].size, streams[RGB].size),
        Wanted(cameras, (_MODELS[arguments.thermal_model], _MODELS[arguments.rgb_model]), arguments.homography),
    )
    command = shlex.join(["irvf", "calibrate", *_given(arguments)])
    written = write_files(calibration, arguments.output, command, distance)
    picture = arguments.output / "report.png"
    _, content = cv2.imencode(".png", cv2.cvtColor(draw_calibration(calibration), cv2.COLOR_RGB2BGR))
    picture.write_bytes(content.tobytes())
    for warning in calibration.warnings:
        print(f"warning: {warning}")
    print(_summary(calibration))
    print(f"{written[0]}: ros2 launch irvf fusion.launch.py extra_params_file:={written[0]}")
    print("judge it first by", ", ".join(str(path) for path in (written[1], picture)))
    return 0


def _given(arguments: argparse.Namespace) -> list[str]:
    """Return the arguments of the calibration that was run, for the report."""
    given = [str(arguments.bag), "--target", arguments.target]
    if arguments.size:
        given += ["--size", "x".join(map(str, arguments.size))]
    given += ["--tag", str(arguments.tag), "--spacing", str(arguments.spacing)] if arguments.tag else []
    given += ["--square", str(arguments.square)] if arguments.square else []
    for name in ("thermal_model", "rgb_model"):
        given += (
            [f"--{name.replace('_', '-')}", getattr(arguments, name)] if getattr(arguments, name) != "plumb_bob" else []
        )
    given += [f"--{name}" for name in ("recalibrate", "homography") if getattr(arguments, name)]
    given += ["--distance", str(arguments.distance)] if arguments.distance is not None else []
    return given


def _summary(calibration: Calibration) -> str:
    used = f"{len(calibration.used)} of {len(calibration.views)} views"
    if calibration.adjusted is None or calibration.translation is None:
        error, _ = calibration.homography_error
        return f"homography from {used}, missed by {error:.2f} px (root mean square): {calibration.reason}"
    thermal, rgb = (rms(calibration.adjusted.residuals[camera::2]) for camera in (THERMAL, RGB))
    x, y, z = 1000 * calibration.translation
    misses = np.concatenate([result.transfer for result in calibration.used])
    return (
        f"{used}: reprojection error {thermal:.2f} px thermal, {rgb:.2f} px RGB; thermal on RGB "
        f"{np.sqrt((misses**2).sum(1).mean()):.2f} px; thermal camera at {x:.1f}, {y:.1f}, {z:.1f} mm of the RGB camera"
    )
