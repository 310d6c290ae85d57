"""How the node says on ``/diagnostics`` how it does: an entry for each part, its level steady, its changes in the log.

Each entry is named ``NAMESPACE/NODE: PART`` and has the rig's ``hardware_id``, which never changes: by these two
``diagnostic_aggregator`` and ``rqt_robot_monitor`` know it. ``STALE`` means that the figures of a part are old, because
no pair has been fused for :data:`STALE_AFTER`.
"""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from irvf_fusion_node.diagnostic_levels import ERROR, OK, STALE, WARN, SteadyLevel, Verdict
from irvf_fusion_node.node_state import NodeState
from irvf_fusion_node.node_statistics import Snapshot

STALL_AFTER = 2.0
"""Seconds without a fused pair after which an active node warns."""
STALE_AFTER = 5.0
"""Seconds without a fused pair after which the figures of the last one are old."""
LOST_AFTER = 10.0
"""Seconds without any output after which it is an error."""
_NAMES = {OK: "OK", WARN: "WARN", ERROR: "ERROR", STALE: "STALE"}


Values = dict[str, str]
Part = Callable[[NodeState, Snapshot], "tuple[Verdict, Values] | None"]


class DiagnosticReporter:
    """Makes the entries of each report; remembers how the parts did, for the life of the node."""

    def __init__(self) -> None:
        self._steady = {part: SteadyLevel() for part in _PARTS}
        self._shown = dict.fromkeys(_PARTS, OK)

    def report(
        self, state: NodeState, snapshot: Snapshot, now: float
    ) -> tuple[list[DiagnosticStatus], list[tuple[bytes, str]]]:
        """Return the entries, and what has changed since the last report.

        Args:
            state: of the node.
            snapshot: of its figures.
            now: monotonic time in seconds.

        Returns:
            The entries in an order that stays, and level and text of each change, to be said in the log.
        """
        entries, changes = [], []
        for part, look in _PARTS.items():
            found = look(state, snapshot)
            if found is None:
                continue
            verdict, values = found
            shown = self._steady[part].settle(verdict, now)
            # That figures are old follows from the silence of the streams, which says itself.
            is_news = STALE not in (shown.level, self._shown[part]) and not shown.is_event
            if shown.level != self._shown[part] and is_news:
                changes.append((shown.level, f"{part}: {_NAMES[shown.level]}: {shown.message}"))
            self._shown[part] = shown.level
            entries.append(_status(state, part, shown, values))
        return entries, changes


def _status(state: NodeState, part: str, verdict: Verdict, values: Values) -> DiagnosticStatus:
    name = state.name.lstrip("/")
    return DiagnosticStatus(
        level=verdict.level,
        name=f"{name}: {part}",
        message=verdict.message,
        hardware_id=state.hardware_id or name,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _fusion(state: NodeState, snapshot: Snapshot) -> tuple[Verdict, Values]:
    values = {"lifecycle": state.lifecycle, "model": state.model, "engine": state.engine}
    values.update({head: model or "none" for head, model in state.heads.items()})
    values["rate_hz"] = f"{snapshot.rate:.1f}"
    for stage, (median, high) in snapshot.latency_ms.items():
        values[f"{stage}.p50_ms"], values[f"{stage}.p95_ms"] = f"{median:.2f}", f"{high:.2f}"
    values.update({name: str(count) for name, count in sorted(snapshot.counts.items())})
    if state.activity:
        return Verdict(WARN, state.activity, is_event=True), values
    if state.problem:
        return Verdict(ERROR, state.problem, is_event=True), values
    if state.lifecycle != "active":
        return Verdict(OK, state.lifecycle, is_event=True), values
    if snapshot.refused:
        stalls = snapshot.since_fused > STALL_AFTER
        message = f"{snapshot.refused} pairs refused since the last fused one, the last: {snapshot.last_refusal}"
        return Verdict(ERROR if stalls else WARN, message, has_held=stalls), values
    return Verdict(OK, f"{snapshot.rate:.1f} fused pairs a second"), values


def _streams(state: NodeState, snapshot: Snapshot) -> tuple[Verdict, Values]:
    values = {"gap.median_ms": f"{snapshot.gap_ms:.2f}", "camera_info": state.camera_info}
    if state.alone:
        values["alone"] = state.alone
    for topic, account in state.streams.items():
        values[f"{topic}.publishers"] = str(state.publishers.get(topic, 0))
        if topic in state.lost:
            values[f"{topic}.lost_s"] = f"{state.lost[topic]:.1f}"
        values.update({f"{topic}.{name}": str(account[name]) for name in ("received", "paired", "waiting")})
        ended = sorted(name for name in account if name.startswith(("dropped.", "refused.", "alone")))
        values.update({f"{topic}.{name}": str(account[name]) for name in ended})
    if state.lifecycle != "active":
        return Verdict(OK, "not active", is_event=True), values
    # One that has never come is not lost; what is said of silent streams names it.
    gone = {topic: seconds for topic, seconds in state.lost.items() if state.streams[topic]["received"]}
    lost = " and ".join(f"{topic} for {seconds:.0f} s" for topic, seconds in gone.items())
    if state.alone:
        return Verdict(
            WARN, f"lost: {lost or 'the other camera'}; {state.alone} is published alone", has_held=True
        ), values
    if snapshot.since_fused > STALL_AFTER:
        message = f"lost: {lost}; " if lost else ""
        level = ERROR if snapshot.since_fused > LOST_AFTER else WARN
        return Verdict(level, message + _why_silent(state, snapshot), has_held=True), values
    return Verdict(OK, "pairs arrive"), values


def _why_silent(state: NodeState, snapshot: Snapshot) -> str:
    unpublished = [topic for topic in state.streams if not state.publishers.get(topic)]
    if unpublished:
        return f"no pairs: nobody publishes {' and '.join(unpublished)}"
    silent = [topic for topic, account in state.streams.items() if not account["received"]]
    if silent:
        return f"no pairs: nothing has arrived on {' and '.join(silent)}"
    if snapshot.refused:
        return "pairs are formed, but refused; the entry fusion says why"
    if snapshot.formed:
        return f"pairs are formed, but none was fused for {snapshot.since_fused:.0f} s: inference is slow"
    return "no pairs: stamps too far apart, streams stalled, or images refused; the counts by reason say which"


def _instruction(state: NodeState, _snapshot: Snapshot) -> tuple[Verdict, Values]:
    current, answer = state.instruction, state.answer
    if current is None or answer is None:
        return Verdict(OK, "none", is_event=True), {}
    values = {
        "text": current.text,
        "task": current.task.name,
        "classes": ", ".join(current.classes) or "all",
        "effects": ", ".join(map(str, current.effects)) or "none",
        "sequence": str(current.sequence),
        "confidence": f"{current.confidence:.2f}",
        "prompt": state.prompt or "none",
        "last text": answer.text,
        "language model": state.language_model or "none",
    }
    return Verdict(OK if answer.accepted else WARN, answer.message, is_event=True), values


def _registration(state: NodeState, snapshot: Snapshot) -> tuple[Verdict, Values] | None:
    found = state.registration
    if found is None:
        return None
    pixels = found.misalignment_px
    values = {
        "method": found.method,
        "misalignment_px": "not estimated" if pixels is None else f"{pixels:.2f}",
        "limit_px": f"{found.limit_px:.2f}" if found.limit_px else "none",
        "note": found.note or "none",
        **found.figures,
    }
    old = _not_of_now(state, snapshot)
    if old:
        return old, values
    if found.problem:
        return Verdict(WARN, found.problem), values
    if pixels is not None and found.limit_px and pixels > found.limit_px:
        message = f"the images are {pixels:.1f} px apart, more than {found.limit_px:.1f}: calibrate the cameras anew"
        return Verdict(WARN, message), values
    apart = "" if pixels is None else f", about {pixels:.1f} px apart"
    return Verdict(OK, f"{found.method}{apart}{f'; {found.note}' if found.note else ''}"), values


def _thermal(state: NodeState, snapshot: Snapshot) -> tuple[Verdict, Values] | None:
    found = state.thermal
    if found is None:
        return None
    values = {"frozen_s": f"{found.frozen_s:.1f}", **found.figures}
    old = _not_of_now(state, snapshot)
    if old:
        return old, values
    if found.frozen_s:
        message = f"the thermal image has not changed for {found.frozen_s:.1f} s (shutter?); the RGB image is published"
        return Verdict(WARN, message, has_held=True), values
    if found.problem:
        return Verdict(WARN, found.problem), values
    return Verdict(OK, "thermal images change"), values


def _engine(state: NodeState, snapshot: Snapshot) -> tuple[Verdict, Values] | None:
    health = state.health
    if health is None:
        return None
    values = {"state": health.state, "engine": health.engine, "hung threads": str(health.hung_threads)}
    values.update({name: str(count) for name, count in sorted(snapshot.counts.items()) if name.startswith("engine.")})
    if health.message:
        return Verdict(ERROR if health.is_error else WARN, health.message, has_held=True), values
    return Verdict(OK, f"{health.engine or state.engine}: {health.state}"), values


def _not_of_now(state: NodeState, snapshot: Snapshot) -> Verdict | None:
    """Return the verdict about figures of the last pair when there has been none for long."""
    if state.lifecycle != "active":
        return Verdict(OK, "not active", is_event=True)
    if snapshot.since_fused > STALE_AFTER:
        return Verdict(STALE, f"no pair for {snapshot.since_fused:.0f} s, the figures are old", has_held=True)
    return None


_PARTS: dict[str, Part] = {
    "fusion": _fusion,
    "input streams": _streams,
    "instruction": _instruction,
    "registration": _registration,
    "thermal": _thermal,
    "engine": _engine,
}
