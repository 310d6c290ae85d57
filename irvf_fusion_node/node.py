"""The fusion node: messages in, one walk through the pipeline, messages out. It computes no pixel itself."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from irvf.engines.tensorrt_builder import Progress, log_progress
from irvf.frames import FramePair
from irvf.imaging.encodings import RGB_ENCODINGS, THERMAL_ENCODINGS, check_image
from irvf.imaging.errors import FrameError
from irvf.instruction.fallback_interpreter import FallbackInterpreter, with_language_model
from irvf.instruction.instruction import Instruction
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.interpreters import load_interpreter
from irvf.pipeline import FusionPipeline
from irvf_fusion_node.cameras import CameraSubscriptions
from irvf_fusion_node.conversions import ImageConversion, image_conversion, stamp_to_ns
from irvf_fusion_node.diagnostics import NodeState, Statistics, StreamAccounts, diagnostic_statuses
from irvf_fusion_node.instructions import Answer, InstructionDesk
from irvf_fusion_node.outputs import Arrived, Outputs, pair_status
from irvf_fusion_node.pairing import Pair, StampPairer, Stream
from irvf_fusion_node.parameters import NodeConfig, Parameters
from irvf_fusion_node.worker import InferenceThread
from irvf_msgs.msg import FusionStatus
from irvf_msgs.srv import SetInstruction

WARNING_PERIOD = 5.0
"""Seconds between two warnings of the same reason."""
_STOP_TIMEOUT = 30.0
_ENCODINGS = {Stream.THERMAL: THERMAL_ENCODINGS, Stream.RGB: RGB_ENCODINGS}
_TOPICS = {Stream.THERMAL: "thermal/image_raw", Stream.RGB: "rgb/image_raw"}


@dataclass
class Configured:
    """What configure makes and cleanup gives back."""

    config: NodeConfig
    pipeline: FusionPipeline
    conversion: ImageConversion
    reader: Interpreter | FallbackInterpreter
    desk: InstructionDesk
    outputs: Outputs


@dataclass
class Active:
    """What activate makes and deactivate gives back."""

    pairer: StampPairer[Arrived]
    worker: InferenceThread[Pair[Arrived]]
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
        self._topics = {stream: self.resolve_topic_name(topic) for stream, topic in _TOPICS.items()}
        self._last_warning: dict[str, float] = {}
        self._problem = ""
        self._activity = ""
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._camera_info: CameraInfo | None = None
        self._in_work: Instruction | None = None  # what the inference thread processes its pair under
        self._settings = Parameters(self)
        for reason, messages in (
            ("parameter.unknown", self._settings.unknown),
            ("parameter.invalid", self._settings.invalid.values()),
        ):
            self._complain(reason, messages)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._instruction_entities: list[Any] = []
        # Diagnostics must come while the node is unconfigured and while simulated time stands still.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._reporting = [
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
        conversion = image_conversion(config.image_conversion)
        options = replace(config.pipeline.engine_options, progress=self._building(log_progress()))
        pipeline = FusionPipeline(replace(config.pipeline, engine_options=options), config.live)
        with ExitStack() as threads:  # they end where what follows fails
            reader = self._instruction_reader(config, pipeline)
            if isinstance(reader, FallbackInterpreter):
                threads.callback(reader.close)
            now = self.get_clock().now().to_msg()
            desk = InstructionDesk(reader, pipeline, config.initial_instruction, now, self._wait_for_pause)
            threads.callback(desk.close, _STOP_TIMEOUT)
            started = time.monotonic()
            pipeline.warm_up()
            heads = ", ".join(f"{head} {model or 'none'}" for head, model in config.pipeline.heads.items())
            self.get_logger().info(
                f"model {pipeline.model_name}, {heads}, engine {pipeline.engine_description}, "
                f"warm after {time.monotonic() - started:.1f} s"
            )
            outputs = Outputs(self, conversion)
            threads.pop_all()
        self._configured = Configured(config, pipeline, conversion, reader, desk, outputs)
        self._instruction_entities = [
            self.create_subscription(String, "instruction", lambda message: self._instruct(message.data), 10),
            self.create_service(
                SetInstruction,
                "set_instruction",
                self._on_set_instruction,
                # While a text is being read the answer is pending, and a group that excludes others would hold them up.
                callback_group=ReentrantCallbackGroup(),
            ),
        ]

    def _wait_for_pause(self, timeout: float) -> None:
        """Wait for the moment after a pair: what is done then in Python, whose threads take turns, delays none."""
        active = self._active
        if active is not None:
            active.worker.wait_for_pause(timeout)

    @staticmethod
    def _instruction_reader(config: NodeConfig, pipeline: FusionPipeline) -> Interpreter | FallbackInterpreter:
        tasks_file = Path(config.tasks_file) if config.tasks_file else None
        name, embed = pipeline.text_encoder or ("", None)
        shared = embed if name == config.instruction_encoder else None
        interpreter = load_interpreter(tasks_file, pipeline.known_classes, config.instruction_encoder, shared)
        if not config.language_model:
            return interpreter
        return with_language_model(interpreter, config.language_model, config.language_model_timeout)

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
        if self._configured is None:
            return TransitionCallbackReturn.ERROR
        try:
            cameras = self._subscribe()
        except Exception as error:  # noqa: BLE001 - as above; a QoS override in the parameters can be at fault
            return self._transition_failed("activate", error)
        self._problem = ""
        result = super().on_activate(state)
        config = self._configured.config
        worker = InferenceThread(
            partial(self._process, self._configured),
            on_error=self._on_pair_error,
            on_superseded=self._on_superseded,
            on_discarded=self._on_discarded,
        )
        pairer: StampPairer[Arrived] = StampPairer(
            config.max_gap, max_wait=config.max_wait, thermal_delay=config.thermal_delay
        )
        self._active = Active(pairer, worker, cameras)
        self.statistics.activated()
        worker.start()
        self._publish_instruction()
        self._publish_labels(self._configured)
        used = [f"{topic}.publisher" for topic in self._configured.outputs.topics]
        used += [f"{name}.subscription" for name in cameras.topic_names]
        self._complain("parameter.unknown", self._settings.unused_qos_overrides(used))
        return result

    def _subscribe(self) -> CameraSubscriptions:
        topics: list[tuple[type, str, Any]] = [(CameraInfo, "rgb/camera_info", self._on_camera_info)]
        topics += [(Image, topic, partial(self._on_image, stream)) for stream, topic in _TOPICS.items()]
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
        for stream in Stream:
            self._accounts.close(stream, active.pairer.counts(stream))
        self._camera_info = None
        if not active.worker.stop(_STOP_TIMEOUT):
            self.get_logger().error(f"inference has not ended after {_STOP_TIMEOUT:.0f} s; it is left behind")

    def _release(self) -> None:
        self._stop()
        for entity in self._instruction_entities:
            if isinstance(entity, Subscription):
                self.destroy_subscription(entity)
            else:
                self._destroy_answered(entity)
        self._instruction_entities = []
        if self._configured is not None:
            if not self._configured.desk.close(_STOP_TIMEOUT):
                self.get_logger().error(f"an instruction is still being read after {_STOP_TIMEOUT:.0f} s")
            if isinstance(self._configured.reader, FallbackInterpreter):
                self._configured.reader.close()
            self._configured.outputs.close()
            self._configured = None

    def _destroy_answered(self, service: Service) -> None:
        """Give a service back once the calls that wait have been answered: rclpy raises of an answer without one."""
        executor = self.executor
        if executor is None:
            self.destroy_service(service)
        else:  # the desk that closes answers them all; the executor sends that in its next round, this is the one after
            executor.create_task(executor.create_task, self.destroy_service, service)

    # Callbacks of the executor: they only store

    def _on_image(self, stream: Stream, message: Image) -> None:
        if self._active is None:
            return
        try:
            check_image(message, _ENCODINGS[stream])
        except FrameError as error:
            total = self._accounts.refuse(stream, error.reason)
            self._warn(f"{stream.value}.refused.{error.reason}", f"{stream.value} image refused: {error}", total)
            return
        arrived = Arrived(message, time.monotonic_ns())
        stamp = stamp_to_ns(message.header.stamp)
        self._hand_over(self._active, self._active.pairer.add(stream, arrived, stamp, arrived.arrival))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _expire(self) -> None:
        if self._active is not None:
            for change in self._active.cameras.follow_publishers():
                self.get_logger().info(f"subscribed anew to {change}")
            self._hand_over(self._active, self._active.pairer.expire(time.monotonic_ns()))

    def _hand_over(self, active: Active, pairs: Sequence[Pair[Arrived]]) -> None:
        for pair in pairs:
            self.statistics.formed()
            active.worker.put(pair)

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
                self._configured.pipeline.reconfigure(self._settings.read(parameters).live)
            except ValueError as error:
                result = SetParametersResult(successful=False, reason=str(error))
        if not result.successful:
            self._refuse("parameter.refused", result.reason)
        return result

    # The inference thread

    def _process(self, configured: Configured, pair: Pair[Arrived]) -> None:
        started = time.monotonic_ns()
        instruction = self._in_work = configured.desk.current
        arrival = max(pair.thermal.arrival, pair.rgb.arrival)
        frames = FramePair(
            configured.conversion.to_frame(pair.thermal.message), configured.conversion.to_frame(pair.rgb.message)
        )
        result = configured.pipeline.fuse(frames, instruction)
        publishing = time.monotonic_ns()
        header = pair.rgb.message.header
        configured.outputs.publish_result(
            result, header, self._camera_info, partial(configured.pipeline.draw_overlay, result, instruction)
        )
        ended = time.monotonic_ns()
        before = {"pairing": (pair.formed - arrival) / 1e6, "wait": (started - pair.formed) / 1e6}
        stages = {**before, **result.stage_ms, "publish": (ended - publishing) / 1e6}
        self.statistics.fused(pair.gap / 1e6, {**stages, "total": (ended - arrival) / 1e6})
        status = pair_status(pair, FusionStatus.FUSED, instruction, configured.pipeline)
        status.stages, status.stage_ms = list(stages), array("f", stages.values())
        status.detections = len(result.detections)
        status.latency_ms = (ended - arrival) / 1e6
        configured.outputs.publish_status(status)

    def _on_pair_error(self, pair: Pair[Arrived], error: Exception) -> None:
        reason = error.reason if isinstance(error, FrameError) else type(error).__name__
        self.statistics.refused(str(error)[:300])
        self._refuse(f"pairs.refused.{reason}", f"pair refused: {error}")
        self._publish_status(pair, FusionStatus.REFUSED, str(error)[:300], self._in_work)

    def _on_superseded(self, pair: Pair[Arrived]) -> None:
        self.statistics.count("pairs.superseded")
        self._publish_status(pair, FusionStatus.SUPERSEDED, "a newer pair came")

    def _on_discarded(self, pair: Pair[Arrived]) -> None:
        self.statistics.count("pairs.discarded")
        self._publish_status(pair, FusionStatus.REFUSED, "the node was deactivated before inference was free")

    def _publish_status(
        self, pair: Pair[Arrived], outcome: int, message: str, instruction: Instruction | None = None
    ) -> None:
        configured = self._configured
        if configured is not None:
            instruction = instruction or configured.desk.current
            configured.outputs.publish_status(pair_status(pair, outcome, instruction, configured.pipeline, message))

    # Saying what happens

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
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = diagnostic_statuses(self._state(), self.statistics.snapshot())
        self._diagnostics.publish(message)

    def _state(self) -> NodeState:
        configured, active = self._configured, self._active
        return NodeState(
            name=self.get_fully_qualified_name(),
            lifecycle="active" if active else "inactive" if configured else "unconfigured",
            activity=self._activity,
            problem=self._problem or "; ".join(self._settings.invalid.values()),
            model=configured.pipeline.model_name if configured else "",
            heads=configured.config.pipeline.heads if configured else {},
            engine=configured.pipeline.engine_description if configured else "",
            instruction=configured.desk.current if configured else None,
            answer=configured.desk.answer if configured else None,
            prompt=configured.desk.prompt_source if configured else "",
            language_model=_language_model(configured.reader) if configured else "",
            streams={
                topic: self._accounts.of(stream, active.pairer.counts(stream) if active else None)
                for stream, topic in self._topics.items()
            },
            publishers={topic: self.count_publishers(topic) for topic in self._topics.values()},
            camera_info=configured.outputs.camera_info if configured else "none",
        )


def _language_model(reader: Interpreter | FallbackInterpreter) -> str:
    """Say how the language model does; empty where there is none."""
    if not isinstance(reader, FallbackInterpreter):
        return ""
    parser = reader.parser
    return f"{parser.failures} texts without an answer" + (f", the last: {parser.reason}" if parser.reason else "")
