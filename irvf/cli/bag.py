"""``irvf bag``: two folders of images in, a rosbag2 out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from irvf.bags import IMAGE_TYPE, create_bag
from irvf.cli.fuse import read_image
from irvf.frames import Frame

THERMAL_TOPIC = "/thermal/image_raw"
RGB_TOPIC = "/rgb/image_raw"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf bag``."""
    parser = commands.add_parser("bag", help="make a rosbag of two image folders", description=__doc__)
    parser.add_argument("thermal", type=Path, help="folder of 8-bit, 16-bit or float images")
    parser.add_argument("rgb", type=Path, help="folder of colour images; same names or same count, in sorted order")
    parser.add_argument("output", type=Path, help="OUT.mcap or OUT.db3 (one file), or a name for a bag folder")
    parser.add_argument("--rate", type=float, default=10.0, help="pairs a second (default: 10)")
    parser.add_argument("--repeat", type=int, default=1, help="how often each pair is shown (default: once)")
    parser.set_defaults(run=run)


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES}


def match(thermal: Path, rgb: Path) -> list[tuple[Path, Path]]:
    """Pair the images of two folders by name, or by order where no name is shared and the counts are equal.

    Raises:
        ValueError: a folder is missing or empty, or images have no partner; they are listed.
    """
    first, second = _images(thermal), _images(rgb)
    shared = [name for name in first if name in second]
    if not shared and len(first) == len(second) and first:
        return list(zip(first.values(), second.values(), strict=True))
    alone = [
        str(path)
        for files, others in ((first, second), (second, first))
        for name, path in files.items()
        if name not in others
    ]
    if not shared:
        raise ValueError(f"{thermal} has {len(first)} images and {rgb} {len(second)}; none share a name")
    if alone:
        raise ValueError(f"{len(alone)} images have no partner of the same name: {', '.join(alone[:10])}")
    return [(first[name], second[name]) for name in shared]


def run(arguments: argparse.Namespace) -> int:
    """Write the bag."""
    if not 0 < arguments.rate <= 1000 or arguments.repeat < 1:
        raise ValueError(
            f"--rate must be in 0..1000 and --repeat at least 1, not {arguments.rate} and {arguments.repeat}"
        )
    pairs = match(arguments.thermal, arguments.rgb)
    store = get_typestore(Stores.ROS2_JAZZY)
    first_stamp = time.time_ns()
    with create_bag(arguments.output) as writer:
        topics = (THERMAL_TOPIC, RGB_TOPIC)
        connections = [writer.add_connection(topic, IMAGE_TYPE, typestore=store) for topic in topics]
        frames = [pair for pair in pairs for _ in range(arguments.repeat)]
        for index, files in enumerate(tqdm(frames, unit="pair", desc="bag")):
            stamp = first_stamp + round(index * 1e9 / arguments.rate)
            for connection, file, color in zip(connections, files, (False, True), strict=True):
                frame_id = "rgb_optical_frame" if color else "thermal_optical_frame"
                message = _message(store, read_image(file, color=color), stamp, frame_id)
                writer.write(connection, stamp, store.serialize_cdr(message, IMAGE_TYPE))
    print(f"{arguments.output}: {len(frames)} pairs at {arguments.rate:g} Hz on {THERMAL_TOPIC} and {RGB_TOPIC}")
    return 0


def _message(store: Any, frame: Frame, stamp: int, frame_id: str) -> Any:
    types = store.types
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id=frame_id
    )
    pixels = np.ascontiguousarray(frame.image)
    return types[IMAGE_TYPE](
        header=header,
        height=frame.height,
        width=frame.width,
        encoding=frame.encoding,
        is_bigendian=0,
        step=pixels.nbytes // frame.height,
        data=pixels.reshape(-1).view(np.uint8),
    )
