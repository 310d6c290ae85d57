"""Plays two cameras to a running fusion node for long, gives it instructions and changes its parameters meanwhile.

``irvf soak`` starts it beside the node, a process of its own as for ``irvf bench node``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import get_rmw_implementation_identifier

from irvf.evaluation.node_timing import RateRecord, spread
from irvf_fusion_node.bench import spinning
from irvf_fusion_node.camera_messages import street_messages
from irvf_fusion_node.load_generator import NODE, RELIABILITIES, BenchError, LoadGenerator, sentences
from irvf_msgs.msg import ActiveInstruction

TOPICS = ("image", "detections")
TEXTS: tuple[tuple[str, bool], ...] = (
    ("segment the people", True),
    ("make it brighter", True),
    ("show me what stands out", True),
    ("reset", True),
    ("viewing", True),
    ("sing me a song about the sea", False),
)
"""Instructions of one cycle, and whether the node should follow them; before each one comes a sentence that it has not
read before, which asks for detection."""
CHANGES: tuple[tuple[str, bool | int | float | str], ...] = (
    ("thermal.smoothing", 0.3),
    ("thermal.low_percentile", 2.0),
    ("detection.score_threshold", 0.6),
    ("processing_scale", 0.8),
    ("detection.every", 3),
)
"""Live parameters that are set to this and back in one cycle."""
REFUSED: tuple[tuple[str, bool | int | float | str], ...] = (("detection.iou_threshold", 7.0), ("model", "average"))
"""Changes that the node must refuse: out of range, and read at configure."""
_INSTRUCTIONS, _PARAMETERS = "instructions", "parameter changes"
_LAST_ANSWERS_WITHIN = 5.0


def texts() -> Iterator[str]:
    """Return the instructions of all cycles."""
    for text, sentence in zip(itertools.cycle(text for text, _ in TEXTS), itertools.cycle(sentences()), strict=False):
        yield sentence
        yield text


class SoakGenerator(LoadGenerator):
    """Plays the cameras, and asks for something else now and then.

    Args:
        namespace: of the fusion node.
        pairs: serialised thermal and RGB images.
        pid: process of the fusion node.
        reliability: of the cameras.
        cycle: seconds in which each instruction and each change has its turn.

    Attributes:
        wrong: answers that were not as they should be.
        drops: stream and reason -> frames, as the node's diagnostics say.
        complaints: what diagnostics warned of -> how many seconds.
    """

    def __init__(
        self, namespace: str, pairs: Sequence[tuple[bytes, bytes]], pid: int, *, reliability: str, cycle: float
    ) -> None:
        super().__init__(
            namespace, pairs, TOPICS, pid, "detection", reliability=reliability, instructions=2 * len(TEXTS) / cycle
        )
        self.wrong: list[str] = []
        self.drops: dict[str, int] = {}
        self.complaints: dict[str, int] = {}
        # The service would put another instruction in the place of each that is given here.
        del self._probes["set_instruction"]
        self._next_probe = itertools.cycle(self._probes)
        self._sentences = texts()
        self._answers = 0
        self._expected = dict(TEXTS)
        self._set = self.create_client(SetParameters, f"{namespace}/{NODE}/set_parameters")
        self._changes: Iterator[tuple[str, Any, bool]] = iter(())
        self._changed = self._change_answers = 0
        self.change_ms: list[float] = []
        count = 2 * len(CHANGES) + len(REFUSED)
        self.create_timer(cycle / count, self._on_change, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def change(self, in_force: Mapping[str, Any]) -> None:
        """Begin to change parameters, and to set them back to what is in force; count answers from now on."""
        self._asked.clear()
        self._answers = 0
        there = [(name, value, True) for name, value in CHANGES]
        back = [(name, in_force[name], True) for name, _ in CHANGES]
        refused = [(name, value, False) for name, value in REFUSED]
        self._changes = itertools.cycle([*there, *refused, *back])

    def _on_answer(self, answer: ActiveInstruction) -> None:
        if answer.text in self._asked:
            self._answers += 1
            if self._expected.get(answer.text, answer.accepted) != answer.accepted:
                self.wrong.append(f"instruction {answer.text!r}: {answer.message}")
        super()._on_answer(answer)

    def _on_change(self) -> None:
        name, value, taken = next(self._changes, ("", None, False)) if self._is_playing else ("", None, False)
        if not name:
            return
        self._changed += 1
        started = time.monotonic_ns()

        def answered(future: Any) -> None:
            self._change_answers += 1
            self.change_ms.append((time.monotonic_ns() - started) / 1e6)
            (result,) = future.result().results
            if result.successful != taken:
                self.wrong.append(f"parameter {name} = {value}: {result.reason or 'it was taken'}")

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        self._set.call_async(request).add_done_callback(answered)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if not self._is_playing:
            return
        for entry in message.status:
            if entry.level != DiagnosticStatus.OK:
                said = f"{entry.name}: {entry.message}"
                self.complaints[said] = self.complaints.get(said, 0) + 1
            lost = [value for value in entry.values if ".dropped." in value.key or ".refused." in value.key]
            self.drops.update({value.key: int(value.value) for value in lost if value.value.isdecimal()})

    def disturbances(self, record: RateRecord) -> dict[str, Any]:
        """Wait for the last answers, and return what was asked and answered."""
        limit = time.monotonic() + _LAST_ANSWERS_WITHIN
        given = len(record.instructed)
        while (self._answers < given or self._change_answers < self._changed) and time.monotonic() < limit:
            time.sleep(0.05)
        return {
            "given": {_INSTRUCTIONS: given, _PARAMETERS: self._changed},
            "answered": {_INSTRUCTIONS: self._answers, _PARAMETERS: self._change_answers},
            "wrong": self.wrong,
            "answer_ms": {_INSTRUCTIONS: spread(record.answered_instructions), _PARAMETERS: spread(self.change_ms)},
        }


def _pairs(record: RateRecord) -> dict[str, list[Any]]:
    """Return when each pair was sent, in monotonic seconds, when the last of its answers came, and its outcome."""
    rows: dict[str, list[Any]] = {"sent_s": [], "latency_ms": [], "outcome": []}
    for stamp, sent in record.sent.items():
        ends = [arrivals.get(stamp) for arrivals in record.arrivals.values()]
        known = [end for end in ends if end is not None]
        rows["sent_s"].append(sent / 1e9)
        rows["latency_ms"].append((max(known) - sent) / 1e6 if len(known) == len(ends) else math.nan)
        rows["outcome"].append(record.outcomes.get(stamp, "not paired"))
    return rows


def _play(arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = street_messages(tuple(arguments.thermal_size), tuple(arguments.rgb_size))
    generator = SoakGenerator(
        arguments.namespace, pairs, arguments.pid, reliability=arguments.reliability, cycle=arguments.cycle
    )
    with spinning(generator):
        generator.wait_until_active(arguments.timeout)
        parameters = generator.parameters(arguments.timeout)
        generator.warm_up(arguments.timeout)
        generator.change(parameters)
        begin = time.monotonic()
        record = generator.play(arguments.rate, arguments.seconds)
        end = begin + arguments.seconds
        return {
            "begin_s": begin,
            "end_s": end,
            "pairs": _pairs(record),
            "disturbances": generator.disturbances(record),
            "drops": generator.drops,
            "complaints": generator.complaints,
            "stages_ms": {name: spread(values) for name, values in record.stages.items()},
            "parameters": parameters,
            "engine": generator.engine,
            "rmw": get_rmw_implementation_identifier(),
        }


def main() -> int:
    """Play, and write a JSON report: what happened, or under ``error`` why nothing did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="/fusion", help="of the fusion node")
    parser.add_argument("--pid", type=int, required=True, help="process of the fusion node")
    parser.add_argument("--thermal-size", type=int, nargs=2, required=True, help="width and height")
    parser.add_argument("--rgb-size", type=int, nargs=2, required=True, help="width and height")
    parser.add_argument("--rate", type=float, required=True, help="pairs a second")
    parser.add_argument("--seconds", type=float, required=True, help="for which they are played")
    parser.add_argument("--cycle", type=float, default=60.0, help="seconds in which all is asked for once")
    parser.add_argument("--reliability", choices=RELIABILITIES, default="reliable", help="of the cameras")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the node")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        report = _play(arguments)
    except BenchError as error:
        report = {"error": str(error)}
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    arguments.report.write_text(json.dumps(report), "utf-8")
    return 1 if "error" in report else 0


if __name__ == "__main__":
    sys.exit(main())
