"""What a replay left behind, as a summary and a contact sheet."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from irvf.bags import AnyReader, open_bag, read_message, read_messages
from irvf.evaluation.node_timing import OUTCOMES
from irvf.frames import Frame, Image8
from irvf.imaging.color import to_rgb
from irvf.imaging.drawing import contact_sheet
from irvf.imaging.encodings import view_image
from irvf.imaging.thermal import ThermalRange


@dataclass
class Summary:
    """Figures of one replay.

    Attributes:
        sent: topic -> messages played.
        outcomes: what became of the pairs.
        refusals: reason -> pairs.
        stage_ms: stage -> times of the fused pairs.
        gaps_ms: distances of the stamps within pairs.
        detections: (sequence and text of the instruction, class) -> number.
        fused_by_instruction: sequence and text of the instruction -> fused pairs.
        instructions: sequence number -> text.
        refused_instructions: text and reason of each that was not understood.
        dropped: stream and reason -> frames, from the node's last diagnostics.
    """

    sent: dict[str, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    gaps_ms: list[float] = field(default_factory=list)
    detections: Counter[tuple[str, str]] = field(default_factory=Counter)
    fused_by_instruction: Counter[str] = field(default_factory=Counter)
    instructions: dict[int, str] = field(default_factory=dict)
    refused_instructions: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as they go into ``summary.json``; times in milliseconds."""
        return {
            "messages_sent": self.sent,
            "pairs": {"formed": sum(self.outcomes.values()), **{name: self.outcomes[name] for name in OUTCOMES}},
            "pairs_refused_by_reason": dict(self.refusals),
            "frames_dropped_by_reason": self.dropped,
            "instructions_refused": self.refused_instructions,
            "gap_ms": percentiles(self.gaps_ms),
            "latency_ms": {
                stage: percentiles(values)
                for stage, values in sorted(self.stage_ms.items(), key=lambda entry: entry[0] == "total")
            },
            "instructions": {
                text: {
                    "fused_pairs": pairs,
                    "detections": {label: n for (owner, label), n in sorted(self.detections.items()) if owner == text},
                }
                for text, pairs in self.fused_by_instruction.items()
            },
        }

    def as_text(self) -> str:
        """Return the figures as Markdown."""
        figures = self.as_dict()
        sent = ", ".join(f"{count} {topic}" for topic, count in self.sent.items())
        pairs = ", ".join(f"{count} {name}" for name, count in figures["pairs"].items())
        lines = ["# Replay", "", f"- sent: {sent}", f"- pairs: {pairs}"]
        for title, reasons in (("frames dropped", self.dropped), ("pairs refused", dict(self.refusals))):
            listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none"
            lines.append(f"- {title}: {listed}")
        lines += [f"- **instruction refused**: {refusal}" for refusal in self.refused_instructions]
        gap = figures["gap_ms"]
        lines += [f"- stamp gap: median {gap['p50']:.1f} ms, 95 % {gap['p95']:.1f} ms", ""]
        lines += ["| stage | p50 ms | p95 ms |", "|---|---|---|"]
        lines += [f"| {stage} | {t['p50']:.1f} | {t['p95']:.1f} |" for stage, t in figures["latency_ms"].items()]
        lines += ["", "| instruction | fused pairs | detections |", "|---|---|---|"]
        for text, entry in figures["instructions"].items():
            found = ", ".join(f"{n} {label}" for label, n in entry["detections"].items()) or "none"
            lines.append(f"| {text} | {entry['fused_pairs']} | {found} |")
        return "\n".join(lines)


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the median and the 95th percentile of the magnitudes (0 without values)."""
    low, high = np.percentile(np.abs(values), (50, 95)) if values else (0.0, 0.0)
    return {"p50": round(float(low), 2), "p95": round(float(high), 2)}


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def _frame(message: Any) -> Frame:
    image = view_image(message)
    return Frame(image, message.encoding, _nanoseconds(message.header.stamp), message.header.frame_id)


@dataclass
class _Recording:
    """The answers of the node, by the stamp of the RGB frame."""

    status: dict[int, Any] = field(default_factory=dict)
    images: set[int] = field(default_factory=set)
    overlays: set[int] = field(default_factory=set)


def _read_answers(reader: AnyReader, summary: Summary) -> _Recording:
    recording = _Recording()
    labels: dict[int, list[str]] = {}
    for connection, _, data in read_messages(reader):
        name = connection.topic.rsplit("/", 1)[-1]
        if name == "camera_info":
            continue
        message: Any = read_message(reader, connection, data)
        if name == "status":
            recording.status[_nanoseconds(message.header.stamp)] = message
            _count_pair(message, summary)
        elif name == "detections":
            found = [entry.results[0].hypothesis.class_id for entry in message.detections]
            labels[_nanoseconds(message.header.stamp)] = found
        elif name == "active_instruction":
            _read_instruction(message, summary)
        elif name in ("image", "overlay"):
            stamps = recording.images if name == "image" else recording.overlays
            stamps.add(_nanoseconds(message.header.stamp))
        elif name == "diagnostics":
            _read_drops(message, summary)
    for stamp, status in recording.status.items():
        if status.outcome == OUTCOMES.index("fused"):
            text = summary.instructions.get(status.instruction_sequence, status.task)
            summary.fused_by_instruction[text] += 1
            summary.detections.update((text, label) for label in labels.get(stamp, []))
    return recording


def _read_instruction(message: Any, summary: Summary) -> None:
    if message.accepted:
        summary.instructions[message.sequence] = message.text
    else:
        summary.refused_instructions.append(f"{message.text!r}: {message.message}")


def _count_pair(status: Any, summary: Summary) -> None:
    outcome = OUTCOMES[status.outcome]
    summary.outcomes[outcome] += 1
    if outcome not in ("rgb only", "thermal only"):
        summary.gaps_ms.append(float(status.gap_ms))
    if outcome == "refused":
        summary.refusals[status.message] += 1
    if outcome == "fused":
        for stage, duration in zip(status.stages, status.stage_ms, strict=True):
            summary.stage_ms.setdefault(stage, []).append(float(duration))
        summary.stage_ms.setdefault("total", []).append(float(status.latency_ms))


def _read_drops(message: Any, summary: Summary) -> None:
    for entry in message.status:
        if entry.name.endswith("input streams"):
            lost = [value for value in entry.values if ".dropped." in value.key or ".refused." in value.key]
            summary.dropped = {value.key.replace(".", " ", 1): int(value.value) for value in lost}


def _chosen(recording: _Recording, summary: Summary) -> list[tuple[str, Any]]:
    """Choose for each instruction the pair in the middle of those that were fused under it, and recorded.

    Images are published with depth 1, the newest wins: a busy machine may not record all of them.
    """
    shown = recording.images & recording.overlays
    chosen = []
    for sequence, text in sorted(summary.instructions.items()):
        fused = [
            status
            for stamp, status in sorted(recording.status.items())
            if status.outcome == 0 and status.instruction_sequence == sequence and stamp in shown
        ]
        if fused:
            chosen.append((text, fused[len(fused) // 2]))
    return chosen


def _images(bag: Path, wanted: dict[str, set[int]]) -> dict[tuple[str, int], Frame]:
    """Read the frames with the wanted stamps (ns) from the topics of a bag."""
    found: dict[tuple[str, int], Frame] = {}
    with open_bag(bag) as reader:
        connections = [connection for connection in reader.connections if connection.topic in wanted]
        for connection, _, data in read_messages(reader, connections):
            frame = _frame(read_message(reader, connection, data))
            if frame.stamp in wanted[connection.topic]:
                found[connection.topic, frame.stamp] = frame
    return found


def write_report(bag: Path, recorded: Path, sent: Path, topics: tuple[str, str], out: Path) -> str:
    """Write ``summary.md``, ``summary.json`` and ``contact_sheet.png`` into ``out``.

    Args:
        bag: what was played.
        recorded: what the node answered.
        sent: JSON report of the player.
        topics: thermal and RGB topic of ``bag``.
        out: folder.

    Returns:
        The summary, with the names of the files.

    Raises:
        BagError: a bag cannot be read.
        RuntimeError: the node fused nothing.
    """
    summary = Summary(sent=json.loads(sent.read_text("utf-8"))["sent"])
    with open_bag(recorded) as reader:
        recording = _read_answers(reader, summary)
    (out / "summary.json").write_text(json.dumps(summary.as_dict(), indent=2) + "\n", "utf-8")
    (out / "summary.md").write_text(summary.as_text() + "\n", "utf-8")
    chosen = _chosen(recording, summary)
    if not chosen:
        raise RuntimeError(f"no pair was fused; {out / 'summary.md'} and {out / 'node.log'} say why")
    sheet = _sheet(bag, recorded, topics, chosen)
    cv2.imwrite(str(out / "contact_sheet.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    files = ", ".join(str(out / name) for name in (recorded.name, "contact_sheet.png", "summary.md", "summary.json"))
    return f"{summary.as_text()}\n\nwritten: {files}"


def _sheet(bag: Path, recorded: Path, topics: tuple[str, str], chosen: list[tuple[str, Any]]) -> Image8:
    rgb_stamps = {_nanoseconds(status.header.stamp) for _, status in chosen}
    thermal_stamps = {_nanoseconds(status.thermal_stamp) for _, status in chosen}
    inputs = _images(bag, {topics[0]: thermal_stamps, topics[1]: rgb_stamps})
    answers = {"/fusion/image", "/fusion/overlay"}
    outputs = _images(recorded, dict.fromkeys(answers, rgb_stamps))
    rows, titles = [], []
    for text, status in chosen:
        stamp = _nanoseconds(status.header.stamp)
        thermal = ThermalRange()(inputs[topics[0], _nanoseconds(status.thermal_stamp)])
        grey = np.repeat(np.round(thermal * 255).astype(np.uint8)[..., None], 3, axis=2)
        rgb = to_rgb(inputs[topics[1], stamp])
        rows.append([grey, rgb, *(to_rgb(outputs[topic, stamp]) for topic in ("/fusion/image", "/fusion/overlay"))])
        titles.append(text)
    return contact_sheet(rows, ["thermal", "RGB", "fused", "overlay"], titles)
