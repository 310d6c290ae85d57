"""Gathers what the node knows of itself, once a second, for ``/diagnostics`` and the log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from irvf.pipeline import FusionPipeline
from irvf_fusion_node.arrivals import Arrived
from irvf_fusion_node.configured import Configured
from irvf_fusion_node.diagnostics import DiagnosticReporter
from irvf_fusion_node.node_state import NodeState, RegistrationState, ThermalState
from irvf_fusion_node.node_statistics import Statistics, StreamAccounts
from irvf_fusion_node.pairing import StampPairer, Stream
from irvf_fusion_node.rig import Rig

_AUTO_TRIES = 8
"""Estimates after which an automatic registration that has not begun is said to have failed."""


class Reporting:
    """Publishes diagnostics in every state of the lifecycle.

    Args:
        node: whose diagnostics they are.
        statistics: counts and times.
        accounts: of the streams.
        topic: returns the one of a stream's images, which depends on a parameter.
    """

    def __init__(
        self, node: Node, statistics: Statistics, accounts: StreamAccounts, topic: Callable[[Stream], str]
    ) -> None:
        self._node = node
        self._statistics = statistics
        self._accounts = accounts
        self._topic = topic
        self._reporter = DiagnosticReporter()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(
        self,
        configured: Configured | None,
        rig: Rig | None,
        pairer: StampPairer[Arrived] | None,
        *,
        problem: str,
        activity: str,
    ) -> None:
        """Publish the entries of this moment, and log what has changed.

        Args:
            configured: None while the node is not.
            rig: likewise.
            pairer: None while the node is not active.
            problem: why the last transition failed; empty when all is well.
            activity: what configure is at.
        """
        state = self._state(configured, rig, pairer, problem=problem, activity=activity)
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status, changes = self._reporter.report(state, self._statistics.snapshot(), time.monotonic())
        self._publisher.publish(message)
        for level, text in changes:
            if level == DiagnosticStatus.OK:
                self._node.get_logger().info(text)
            elif level == DiagnosticStatus.ERROR:
                self._node.get_logger().error(text)
            else:
                self._node.get_logger().warning(text)

    def _state(
        self,
        configured: Configured | None,
        rig: Rig | None,
        pairer: StampPairer[Arrived] | None,
        *,
        problem: str,
        activity: str,
    ) -> NodeState:
        topics = {stream: self._topic(stream) for stream in Stream}
        streams = {
            topic: self._accounts.of(stream, pairer.counts(stream) if pairer else None)
            for stream, topic in topics.items()
        }
        common = NodeState(
            name=self._node.get_fully_qualified_name(),
            lifecycle="active" if pairer else "inactive" if configured else "unconfigured",
            hardware_id=self._node.get_parameter("hardware_id").value,
            activity=activity,
            problem=problem,
            streams=streams,
            publishers={topic: self._node.count_publishers(topic) for topic in topics.values()},
        )
        if configured is None or rig is None:
            return common
        now = time.monotonic_ns()
        lost = pairer.lost if pairer else {}
        alone = [stream.value for stream in rig.config.alone if stream not in lost] if lost else []
        desk, pipeline = configured.desk, configured.pipeline
        return replace(
            common,
            model=pipeline.model_name,
            heads=configured.config.pipeline.heads,
            engine=pipeline.engine_description,
            instruction=desk.current,
            answer=desk.answer,
            prompt=desk.prompt_source,
            language_model=configured.language_model,
            camera_info=configured.outputs.camera_info,
            lost={topics[stream]: (now - since) / 1e9 for stream, since in lost.items()},
            alone=" and ".join(alone),
            registration=_registration(pipeline, rig),
            thermal=_thermal(pipeline),
            health=configured.watchdog.health,
        )


def _registration(pipeline: FusionPipeline, rig: Rig) -> RegistrationState:
    method, limit, alignment = rig.config.live.registration, rig.config.max_misalignment, pipeline.alignment
    if alignment is None:
        return RegistrationState(method, limit_px=limit, problem=rig.problem)
    problem = rig.problem
    if not problem and method == "auto" and not alignment.updates and alignment.estimates >= _AUTO_TRIES:
        problem = "" if alignment.state == "aligned" else f"auto has found nothing to go by: {alignment.reason}"
    return RegistrationState(
        method,
        None if math.isnan(alignment.misalignment_px) else alignment.misalignment_px,
        limit,
        problem,
        alignment.reason,
        {
            "state": alignment.state,
            "confidence": f"{alignment.confidence:.2f}",
            "estimates": str(alignment.estimates),
            "updates": str(alignment.updates),
            "homography": " ".join(f"{number:.6g}" for number in alignment.homography),
        },
    )


def _thermal(pipeline: FusionPipeline) -> ThermalState:
    shutter = pipeline.shutter
    return ThermalState(
        frozen_s=max(shutter.since, 0.1) if shutter.frozen else 0.0, figures={"image": shutter.reason or "live"}
    )
