"""The fusion node: messages in, one walk through the pipeline, messages out. It computes no pixel itself."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String

from irvf.engines.tensorrt_builder import Progress, log_progress
from irvf.imaging.errors import FrameError
from irvf_fusion_node.arrivals import Arrived, camera_info_topic, image_topic
from irvf_fusion_node.cameras import CameraSubscriptions
from irvf_fusion_node.configuration import NodeConfig
from irvf_fusion_node.configured import Configured
from irvf_fusion_node.delay_service import DelayService
from irvf_fusion_node.engine_health import Event
from irvf_fusion_node.instructions import Answer
from irvf_fusion_node.node_statistics import Statistics, StreamAccounts
from irvf_fusion_node.pairing import StampPairer, Stream
from irvf_fusion_node.parameters import Parameters
from irvf_fusion_node.processing import Item, Processor
from irvf_fusion_node.reporting import Reporting
from irvf_fusion_node.rig import Rig
from irvf_fusion_node.worker import InferenceThread
from irvf_msgs.srv import SetInstruction

WARNING_PERIOD = 5.0
"""Seconds between two warnings of the same reason."""
_STOP_TIMEOUT = 30.0
_SEVERE_EVENTS = ("none_left", "abandoned")


@dataclass
class Active:
    """What activate makes and deactivate gives back."""

    pairer: StampPairer[Arrived]
    processor: Processor
    worker: InferenceThread[Item]
    cameras: CameraSubscriptions


class FusionNode(LifecycleNode):
    """Lifecycle node that fuses thermal and RGB images under an instruction; see ``docs/architecture.md``.

    Attributes:
        statistics: counts and times of the node's whole life.
        finalized: whether it was shut down, after which no transition is possible.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__("irvf_fusion_node", automatically_declare_parameters_from_overrides=True, **arguments)
        self.finalized = False
        self.statistics = Statistics()
        self._accounts = StreamAccounts()
        self._last_warning: dict[str, float] = {}
        self._problem = ""
        self._activity = ""
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._rig: Rig | None = None
        self._delay: DelayService | None = None
        self._camera_infos: dict[Stream, CameraInfo] = {}
        self._settings = Parameters(self)
        for reason, messages in (
            ("parameter.unknown", self._settings.unknown),
            ("parameter.invalid", self._settings.invalid.values()),
        ):
            self._complain(reason, messages)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._requests: list[Any] = []
        # Diagnostics must come while the node is unconfigured and while simulated time stands still.
        self._reporting = Reporting(self, self.statistics, self._accounts, lambda stream: self._image_topic(stream)[1])
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers_of_diagnostics = [
            self.create_timer(1.0, self._publish_diagnostics, clock=steady),
            self.create_timer(0.1, self._expire, clock=steady),
        ]

    @property
    def autostart(self) -> bool:
        """Whether the node is to configure and activate itself."""
        return bool(self.get_parameter("autostart").value)

    # Lifecycle

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load model and engine, warm up; on failure stay unconfigured and say why."""
        try:
            try:
                self._configure()
            finally:
                self._activity = ""
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it without a word
            return self._transition_failed("configure", error)
        self._problem = ""
        return TransitionCallbackReturn.SUCCESS

    def _transition_failed(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        """Say why, and return to the state before."""
        self._problem = f"cannot {transition}: {error}"
        self.statistics.count(f"{transition}.failed")
        self.get_logger().error(self._problem)
        if transition == "configure":
            self._release()
        return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        if self._settings.invalid:
            raise ValueError("; ".join(self._settings.invalid.values()))
        config = self._settings.read()
        configured = Configured(
            self, config, self._building(log_progress()), self._wait_for_pause, self._on_engine_event
        )
        self._configured = configured
        self._rig = Rig(self, config, configured.use_geometry)
        self._delay = DelayService(self, configured.conversion, lambda: self._active is not None)
        self.get_logger().info(configured.report)
        self._requests = [self._delay.service]
        take = self.create_subscription(String, "instruction", lambda message: self._instruct(message.data), 100)
        self._requests.append(take)
        # While a text is being read the answer is pending, and a group that excludes others would hold them up.
        group = ReentrantCallbackGroup()
        self._requests.append(
            self.create_service(SetInstruction, "set_instruction", self._on_set_instruction, callback_group=group)
        )

    def _wait_for_pause(self, timeout: float) -> None:
        """Wait for the moment after a pair: what is done then in Python, whose threads take turns, delays none."""
        active = self._active
        if active is not None:
            active.worker.wait_for_pause(timeout)

    def _building(self, log: Progress) -> Progress:
        """Return what shows the progress of an engine that is built: in the log, and at once in the diagnostics."""
        shown = 0.0

        def show(phase: str, share: float) -> None:
            nonlocal shown
            log(phase, share)
            if time.monotonic() - shown >= 1.0:
                shown = time.monotonic()
                self._activity = f"building an engine: {phase}, {share:.0%}"
                self._publish_diagnostics()  # the executor, whose timer does it, is busy with configure

        return show

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and publish from now on."""
        configured = self._configured
        if configured is None:
            return TransitionCallbackReturn.ERROR
        try:
            cameras = self._subscribe()
        except Exception as error:  # noqa: BLE001 - as above; a QoS override in the parameters can be at fault
            return self._transition_failed("activate", error)
        self._problem = ""
        result = super().on_activate(state)
        config = self._settings.read()
        processor = Processor(configured, self.statistics, self._camera_infos, self._refuse)
        worker = InferenceThread(
            processor.process,
            on_error=processor.failed,
            on_superseded=processor.superseded,
            on_discarded=processor.discarded,
        )
        pairer: StampPairer[Arrived] = StampPairer(
            config.max_gap,
            max_wait=config.max_wait,
            thermal_delay=config.delays[Stream.THERMAL],
            rgb_delay=config.delays[Stream.RGB],
            loss_after=config.loss_after,
            alone=config.alone,
        )
        self._active = Active(pairer, processor, worker, cameras)
        self.statistics.activated()
        worker.start()
        self._publish_instruction()
        self._publish_labels(configured)
        used = [f"{topic}.publisher" for topic in configured.outputs.topics]
        used += [f"{name}.subscription" for name in cameras.topic_names]
        self._complain("parameter.unknown", self._settings.unused_qos_overrides(used))
        return result

    def _image_topic(self, stream: Stream) -> tuple[type, str]:
        return image_topic(self, stream, self.get_parameter(f"{stream.value}.transport").value)

    def _subscribe(self) -> CameraSubscriptions:
        topics: list[tuple[type, str, Any]] = []
        for stream in Stream:
            topics.append((CameraInfo, camera_info_topic(stream), partial(self._on_camera_info, stream)))
            topics.append((*self._image_topic(stream), partial(self._on_image, stream)))
        return CameraSubscriptions(self, topics, self._settings.topics_with_reliability)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop publishing and let go of the cameras."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give model, engine and publishers back."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As cleanup, from any state."""
        self._release()
        self.finalized = True
        return super().on_shutdown(state)

    def on_error(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured after a transition that failed half way."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _stop(self) -> None:
        if self._active is None:
            return
        active, self._active = self._active, None
        active.cameras.close()
        if self._delay is not None:
            self._delay.stop()
        for stream in Stream:
            self._accounts.close(stream, active.pairer.counts(stream))
        if not active.worker.stop(_STOP_TIMEOUT):
            self.get_logger().error(f"inference has not ended after {_STOP_TIMEOUT:.0f} s; it is left behind")
        self._camera_infos.clear()

    def _release(self) -> None:
        self._stop()
        for entity in self._requests:
            if isinstance(entity, Subscription):
                self.destroy_subscription(entity)
            else:
                self._destroy_answered(entity)
        self._requests = []
        self._delay = None
        if self._rig is not None:
            self._rig.close()
            self._rig = None
        if self._configured is not None:
            for left in self._configured.close(_STOP_TIMEOUT):
                self.get_logger().error(left)
            self._configured = None
        # Networks of hundreds of megabytes must not wait for a chance collection to break what holds them in circles.
        gc.collect()

    def _destroy_answered(self, service: Service) -> None:
        """Give a service back once the calls that wait have been answered: rclpy raises of an answer without one."""
        executor = self.executor
        if executor is None:
            self.destroy_service(service)
        else:  # the desk that closes answers them all; the executor sends that in its next round, this is the one after
            executor.create_task(executor.create_task, self.destroy_service, service)

    # Callbacks of the executor: they only store

    def _on_image(self, stream: Stream, message: Image | CompressedImage) -> None:
        active, rig = self._active, self._rig
        if active is None or rig is None:
            return
        arrived = Arrived(stream, message, time.monotonic_ns())
        try:
            arrived.check()
        except FrameError as error:
            total = self._accounts.refuse(stream, error.reason)
            self._warn(f"{stream.value}.refused.{error.reason}", f"{stream.value} image refused: {error}", total)
            return
        rig.take_frame(stream, message.header.frame_id)
        if self._delay is not None:
            self._delay.offer(arrived)
        self._hand_over(active, active.pairer.add(stream, arrived, arrived.stamp, arrived.arrival))

    def _on_camera_info(self, stream: Stream, message: CameraInfo) -> None:
        self._camera_infos[stream] = message
        if self._rig is not None:
            self._rig.take_camera_info(stream, message)

    def _expire(self) -> None:
        if self._active is not None:
            for change in self._active.cameras.follow_publishers():
                self.get_logger().info(f"subscribed anew to {change}")
            self._hand_over(self._active, self._active.pairer.expire(time.monotonic_ns()))

    def _hand_over(self, active: Active, items: Sequence[Item]) -> None:
        for item in items:
            self.statistics.formed()
            active.worker.put(item)

    def _instruct(self, text: str, answered: Callable[[Answer], None] = lambda _answer: None) -> None:
        """Hand a text to the desk; ``answered`` is called with what became of it, in whatever thread."""
        configured = self._configured
        if configured is None:
            return

        def tell(answer: Answer) -> None:
            if not answer.read:
                self.statistics.count("instruction.not_read")
            answered(answer)
            if answer.read:
                if not answer.accepted:
                    self._refuse("instruction.refused", f"instruction refused: {answer.message}")
                configured.outputs.publish_instruction(configured.desk.message())

        configured.desk.give(text, self.get_clock().now().to_msg(), tell)

    async def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        configured = self._configured
        if configured is None:
            response.message = "the node is not configured"
            return response
        answered: Future = Future()

        def tell(answer: Answer) -> None:
            answered.set_result(answer)
            if self.executor is not None:
                self.executor.wake()  # it waits for messages, not for this

        self._instruct(request.text, tell)
        return configured.desk.fill(await answered, response)

    def _publish_instruction(self) -> None:
        if self._configured is not None:
            self._configured.outputs.publish_instruction(self._configured.desk.message())

    def _publish_labels(self, configured: Configured) -> None:
        labels = configured.pipeline.segmentation_labels
        if labels:
            configured.outputs.publish_labels(labels, Header(stamp=self.get_clock().now().to_msg()))

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        result = self._settings.check(parameters, configured=self._configured is not None)
        if result.successful and self._configured is not None:
            try:
                self._apply(self._configured, self._settings.read(parameters))
            except ValueError as error:
                result = SetParametersResult(successful=False, reason=str(error))
        if not result.successful:
            self._refuse("parameter.refused", result.reason)
        return result

    def _apply(self, configured: Configured, config: NodeConfig) -> None:
        """Let what can change while the node runs take effect.

        Raises:
            ValueError: values that do not fit; the old ones stay.
        """
        configured.reconfigure(config.live)
        configured.outputs.jpeg_quality = config.jpeg_quality
        if self._rig is not None:
            self._rig.apply(config)
        if self._active is not None:
            for stream, delay in config.delays.items():
                self._active.pairer.set_delay(stream, delay)

    # Saying what happens

    def _on_engine_event(self, event: Event) -> None:
        self.statistics.count(f"engine.{event.kind}")
        log = self.get_logger().error if event.kind in _SEVERE_EVENTS else self.get_logger().warning
        log(event.message)

    def _complain(self, reason: str, messages: Iterable[str]) -> None:
        for message in messages:
            self.statistics.count(reason)
            self.get_logger().warning(message)

    def _refuse(self, reason: str, message: str) -> None:
        """Count a refusal and warn of it, of each reason once in a while."""
        self._warn(reason, message, self.statistics.count(reason))

    def _warn(self, reason: str, message: str, total: int) -> None:
        now = time.monotonic()
        if now - self._last_warning.get(reason, -WARNING_PERIOD) >= WARNING_PERIOD:
            self._last_warning[reason] = now
            self.get_logger().warning(f"{message} [{reason}, {total} so far]")

    def _publish_diagnostics(self) -> None:
        self._reporting.publish(
            self._configured,
            self._rig,
            self._active.pairer if self._active else None,
            problem=self._problem or "; ".join(self._settings.invalid.values()),
            activity=self._activity,
        )
