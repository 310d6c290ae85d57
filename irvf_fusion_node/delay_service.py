"""The service ``estimate_delay``: by how much the thermal stamps are late, asked for while the cameras move."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.task import Future

from irvf.imaging.delay import DelayEstimate
from irvf_fusion_node.arrivals import Arrived
from irvf_fusion_node.conversions import ImageConversion
from irvf_fusion_node.delay_estimation import DelayEstimation
from irvf_msgs.srv import EstimateDelay

DEFAULT_SECONDS = 10.0
_STOP_TIMEOUT = 5.0


class DelayService:
    """Answers one request at a time; frames are offered to it while one is being answered.

    Args:
        node: that serves, and whose parameter it sets.
        conversion: of image messages.
        is_active: whether images come.
    """

    def __init__(self, node: LifecycleNode, conversion: ImageConversion, is_active: Callable[[], bool]) -> None:
        self._node = node
        self._conversion = conversion
        self._is_active = is_active
        self._estimation: DelayEstimation[Arrived] | None = None
        # The answer is pending for seconds, and a group that excludes others would hold the node's callbacks up.
        self.service = node.create_service(
            EstimateDelay, "estimate_delay", self._answer, callback_group=ReentrantCallbackGroup()
        )

    def offer(self, arrived: Arrived) -> None:
        """Leave a frame to be looked at, if an estimation runs."""
        if self._estimation is not None:
            self._estimation.offer(arrived.stream, arrived, arrived.stamp)

    def stop(self) -> None:
        """End a running estimation; its answer is then a refusal."""
        if self._estimation is not None:
            self._estimation.stop(_STOP_TIMEOUT)

    async def _answer(self, request: EstimateDelay.Request, response: EstimateDelay.Response) -> EstimateDelay.Response:
        if self._estimation is not None:
            response.message = "an estimation is running already; wait for its answer"
            return response
        if not self._is_active():
            response.message = "the node is not active, so no images come; activate it first"
            return response
        answered: Future = Future()

        def tell(estimate: DelayEstimate) -> None:
            answered.set_result(estimate)
            if self._node.executor is not None:
                self._node.executor.wake()  # it waits for messages, not for this

        try:
            self._estimation = DelayEstimation(
                request.seconds or DEFAULT_SECONDS, lambda arrived: arrived.to_frame(self._conversion), tell
            )
        except ValueError as error:
            response.message = str(error)
            return response
        self._estimation.start()
        estimate: DelayEstimate = await answered
        self._estimation = None
        response.success, response.message = estimate.accepted, estimate.reason
        # What was found is the difference of the two cameras' delays.
        delay = estimate.delay + float(self._node.get_parameter("pairing.rgb_delay").value)
        response.thermal_delay, response.confidence = delay, estimate.confidence
        if estimate.accepted and request.apply:
            (result,) = self._node.set_parameters([Parameter("pairing.thermal_delay", value=delay)])
            if not result.successful:
                response.success, response.message = False, f"{estimate.reason}; not applied: {result.reason}"
        return response
