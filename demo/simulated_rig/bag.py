"""Writes sequences of the simulated rig as a rosbag2, with what a node needs to use it and the truth beside it."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from irvf.bags import create_bag

from .clock import earliest_stamp
from .config import RigConfig
from .geometry import PinholeCamera, homography_thermal_to_rgb
from .rig import Sample, SimulatedRig
from .traffic import LABELS

THERMAL_FRAME, RGB_FRAME = "thermal_optical_frame", "rgb_optical_frame"
THERMAL_TOPIC, RGB_TOPIC = "/thermal/image_raw", "/rgb/image_raw"
TYPICAL_DISTANCE_M = 12.0  # of the people on the crossing: where the homography aligns both pictures exactly

_types = get_typestore(Stores.ROS2_JAZZY)
_message = _types.types  # classes that rosbags builds at run time, hence the Any below


def write_bag(path: Path | str, config: RigConfig, *, progress: bool = True) -> dict[str, Any]:
    """Render a sequence into a rosbag2 recording.

    Topics: ``/thermal/image_raw`` (``16UC1`` radiometric counts), ``/rgb/image_raw`` (``rgb8``) and a ``camera_info``
    beside each. Headers carry the capture times; messages are recorded when they arrive, a transport delay later.

    Args:
        path: a file ``NAME.mcap`` or ``NAME.db3`` (sqlite3), or a folder (mcap); what stands there is replaced.
        config: the sequence.
        progress: show a progress bar on standard error.

    Returns:
        The truth: ``{"classes": [...], "frames": [{"stamp", "thermal_stamp", "boxes": [{"label", "instance",
        "visible", "box": [x_min, y_min, x_max, y_max]}]}]}``; stamps in nanoseconds, boxes in RGB pixels (continuous
        edges); ``thermal_stamp`` is null at ticks without a thermal frame.
    """
    rig, frames = SimulatedRig(config), []
    with create_bag(Path(path)) as writer:
        connections = {
            topic: writer.add_connection(topic, message_type.__msgtype__, typestore=_types)
            for topic, message_type in _topics().items()
        }

        def write(arrival: int, topic: str, message: Any) -> None:
            writer.write(connections[topic], arrival, _types.serialize_cdr(message, message.__msgtype__))

        waiting: list[tuple[int, int, str, Any]] = []
        numbers = itertools.count()  # keeps messages of the same moment in order
        for sample in tqdm(rig, "rendering", unit="frame", disable=not progress):
            for arrival, topic, message in _messages(rig, sample):
                heapq.heappush(waiting, (arrival, next(numbers), topic, message))
            # Nothing later can arrive before the next frame is taken: jitter stays under half a period.
            until = earliest_stamp(config, sample.index + 1)
            while waiting and waiting[0][0] < until:
                arrival, _, topic, message = heapq.heappop(waiting)
                write(arrival, topic, message)
            frames.append(_truth(sample))
        for arrival, _, topic, message in sorted(waiting, key=lambda item: item[:2]):
            write(arrival, topic, message)
    return {"classes": list(LABELS[1:]), "frames": frames}


def write_recording(path: Path | str, config: RigConfig, *, progress: bool = True) -> tuple[Path, Path]:
    """Write a bag and, beside it, the node's parameters and the truth.

    Args:
        path: as in :func:`write_bag`.
        config: the sequence.
        progress: show a progress bar on standard error.

    Returns:
        The parameter file ``NAME.params.yaml`` and the truth ``NAME.truth.json``.
    """
    bag = Path(path)
    truth = write_bag(bag, config, progress=progress)
    stem = bag.stem if bag.suffix in {".mcap", ".db3"} else bag.name
    parameters, truth_file = bag.with_name(f"{stem}.params.yaml"), bag.with_name(f"{stem}.truth.json")
    values = homography_thermal_to_rgb(config, TYPICAL_DISTANCE_M).ravel().tolist()
    content = {"registration.method": "homography", "registration.homography": values}
    text = yaml.safe_dump({"/**": {"ros__parameters": content}}, default_flow_style=None, sort_keys=False, width=120)
    parameters.write_text(text, encoding="utf-8")
    truth_file.write_text(json.dumps(truth), encoding="utf-8")
    return parameters, truth_file


def _topics() -> dict[str, Any]:
    image, info = _message["sensor_msgs/msg/Image"], _message["sensor_msgs/msg/CameraInfo"]
    return {THERMAL_TOPIC: image, "/thermal/camera_info": info, RGB_TOPIC: image, "/rgb/camera_info": info}


def _messages(rig: SimulatedRig, sample: Sample) -> Iterator[tuple[int, str, Any]]:
    """Arrival time, topic and content of the messages of one tick."""
    config = rig.config
    arrival = sample.stamp + round(config.rgb_delay_ms * 1e6)
    header = _header(sample.stamp, RGB_FRAME)
    yield arrival, RGB_TOPIC, _image(header, sample.rgb, "rgb8")
    yield arrival, "/rgb/camera_info", _camera_info(header, rig.rgb_camera)
    if sample.thermal is not None:
        arrival = sample.thermal_stamp + round(config.thermal_delay_ms * 1e6)
        header = _header(sample.thermal_stamp, THERMAL_FRAME)
        yield arrival, THERMAL_TOPIC, _image(header, sample.thermal, "16UC1")
        yield arrival, "/thermal/camera_info", _camera_info(header, rig.thermal_camera)


def _header(stamp: int, frame_id: str) -> Any:
    time = _message["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return _message["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def _image(header: Any, image: NDArray[Any], encoding: str) -> Any:
    little_endian = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<"))
    return _message["sensor_msgs/msg/Image"](
        header=header,
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=little_endian.strides[0],
        data=little_endian.reshape(-1).view(np.uint8),
    )


def _camera_info(header: Any, camera: PinholeCamera) -> Any:
    """CameraInfo of an ideal camera: no distortion, the rectified camera is the camera itself."""
    return _message["sensor_msgs/msg/CameraInfo"](
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=camera.matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([camera.matrix, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=_message["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def _truth(sample: Sample) -> dict[str, Any]:
    boxes = [
        {
            "label": found.label,
            "instance": found.instance,
            "visible": round(found.visible, 3),
            "box": [found.box.x_min, found.box.y_min, found.box.x_max, found.box.y_max],
        }
        for found in sample.boxes
    ]
    thermal_stamp = None if sample.thermal is None else sample.thermal_stamp
    return {"stamp": sample.stamp, "thermal_stamp": thermal_stamp, "boxes": boxes}
