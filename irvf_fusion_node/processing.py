"""What the inference thread does with a pair, or with a frame of one camera alone, and how it is accounted for."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Mapping
from functools import partial

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from irvf.frames import Frame, FramePair, FusionResult, Source
from irvf.imaging.errors import FrameError
from irvf.instruction.instruction import Instruction
from irvf.pipeline import FusionPipeline
from irvf_fusion_node.arrivals import Arrived
from irvf_fusion_node.configured import Configured
from irvf_fusion_node.conversions import ns_to_stamp
from irvf_fusion_node.engine_health import SupervisionError
from irvf_fusion_node.node_statistics import Statistics
from irvf_fusion_node.pairing import Pair, Single, Stream
from irvf_msgs.msg import FusionStatus

Item = Pair[Arrived] | Single[Arrived]
Work = Callable[[FusionPipeline], FusionResult]
MAX_MESSAGE = 300
"""Characters of a reason in status and diagnostics."""
_OUTCOMES = {
    Source.BOTH: FusionStatus.FUSED,
    Source.RGB: FusionStatus.RGB_ONLY,
    Source.THERMAL: FusionStatus.THERMAL_ONLY,
}


class Processor:
    """Takes items through the pipeline to the topics.

    Args:
        configured: the pipeline and the publishers.
        statistics: counts and times.
        camera_infos: last one of each camera, as they come.
        refuse: counts a refusal under a reason, and warns of it with a message.
    """

    def __init__(
        self,
        configured: Configured,
        statistics: Statistics,
        camera_infos: Mapping[Stream, CameraInfo],
        refuse: Callable[[str, str], None],
    ) -> None:
        self._configured = configured
        self._statistics = statistics
        self._camera_infos = camera_infos
        self._refuse = refuse
        self._in_work: Instruction | None = None  # what the present item is processed under

    def process(self, item: Item) -> None:
        """Fuse and publish; called in the inference thread."""
        started = time.monotonic_ns()
        configured = self._configured
        instruction = self._in_work = configured.desk.current
        decoding = time.monotonic_ns()
        frames = self._frames(item)
        decoded = time.monotonic_ns()
        largest = max(frames, key=lambda frame: frame.height * frame.width)
        patience = configured.patience(largest.height, largest.width)
        result = configured.watchdog.run(_work(item, frames, instruction), patience)
        publishing = time.monotonic_ns()
        header = _header(item)
        camera = Stream.THERMAL if result.source is Source.THERMAL else Stream.RGB
        configured.outputs.publish_result(
            result,
            header,
            self._camera_infos.get(camera),
            partial(configured.pipeline.draw_overlay, result, instruction),
        )
        ended = time.monotonic_ns()
        arrival = _arrival(item)
        stages = {
            "pairing": (item.formed - arrival) / 1e6,
            "wait": (started - item.formed) / 1e6,
            "read": (decoded - decoding) / 1e6,
            **result.stage_ms,
            "publish": (ended - publishing) / 1e6,
        }
        gap_ms = item.gap / 1e6 if isinstance(item, Pair) else None
        self._statistics.published(result.source, gap_ms, {**stages, "total": (ended - arrival) / 1e6})
        status = self._status(item, _OUTCOMES[result.source], result.note, instruction)
        status.stages, status.stage_ms = list(stages), array("f", stages.values())
        status.detections = len(result.detections)
        status.latency_ms = (ended - arrival) / 1e6
        if result.misalignment_px is not None:
            status.misalignment_px = result.misalignment_px
        configured.outputs.publish_status(status)

    def _frames(self, item: Item) -> tuple[Frame, ...]:
        """Return an item's images, decoded: thermal and RGB, or the one that is alone."""
        arrived = (item.thermal, item.rgb) if isinstance(item, Pair) else (item.item,)
        return tuple(each.to_frame(self._configured.conversion) for each in arrived)

    def failed(self, item: Item, error: Exception) -> None:
        """Account for an item of which :meth:`process` raised."""
        named = isinstance(error, (FrameError, SupervisionError))
        reason = error.reason if named else type(error).__name__  # type: ignore[attr-defined]  # of both
        message = str(error)[:MAX_MESSAGE]
        self._statistics.refused(message)
        self._refuse(f"pairs.refused.{reason}", f"pair refused: {message}")
        self._publish(item, FusionStatus.REFUSED, message, self._in_work)

    def superseded(self, item: Item) -> None:
        """Account for an item that a newer one replaced."""
        self._statistics.count("pairs.superseded")
        self._publish(item, FusionStatus.SUPERSEDED, "a newer pair came")

    def discarded(self, item: Item) -> None:
        """Account for an item that waited when the node was deactivated."""
        self._statistics.count("pairs.discarded")
        self._publish(item, FusionStatus.REFUSED, "the node was deactivated before inference was free")

    def _publish(self, item: Item, outcome: int, message: str, instruction: Instruction | None = None) -> None:
        status = self._status(item, outcome, message, instruction or self._configured.desk.current)
        self._configured.outputs.publish_status(status)

    def _status(self, item: Item, outcome: int, message: str, instruction: Instruction) -> FusionStatus:
        pipeline = self._configured.pipeline
        thermal = item.thermal if isinstance(item, Pair) else item.item if item.stream is Stream.THERMAL else None
        return FusionStatus(
            header=_header(item),
            thermal_stamp=thermal.header.stamp if thermal else Time(),
            gap_ms=item.gap / 1e6 if isinstance(item, Pair) else 0.0,
            outcome=outcome,
            message=message,
            instruction_sequence=instruction.sequence,
            task=instruction.task.name,
            model=pipeline.model_name,
            engine=pipeline.engine_description,
            misalignment_px=float("nan"),
        )


def _work(item: Item, frames: tuple[Frame, ...], instruction: Instruction) -> Work:
    """Return what the pipeline is to do."""
    if isinstance(item, Pair):
        thermal, rgb = frames
        return lambda pipeline: pipeline.fuse(FramePair(thermal, rgb), instruction)
    (frame,) = frames
    if item.stream is Stream.RGB:
        return lambda pipeline: pipeline.show_rgb(frame, instruction, "the thermal stream is lost")
    return lambda pipeline: pipeline.show_thermal(frame, instruction, "the RGB stream is lost")


def _header(item: Item) -> Header:
    """Return the header that the outputs have: the RGB frame's, or that of a frame alone, by the RGB camera's clock."""
    if isinstance(item, Pair):
        return item.rgb.header
    return Header(stamp=ns_to_stamp(item.stamp), frame_id=item.item.header.frame_id)


def _arrival(item: Item) -> int:
    """Return when the item's last message came, monotonic time in ns."""
    return max(item.thermal.arrival, item.rgb.arrival) if isinstance(item, Pair) else item.item.arrival
