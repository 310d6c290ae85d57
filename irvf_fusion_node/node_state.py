"""What the node knows of itself at one moment: the value that diagnostics are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from irvf.instruction.instruction import Instruction
from irvf_fusion_node.engine_health import Health
from irvf_fusion_node.instructions import Answer


@dataclass(frozen=True)
class RegistrationState:
    """How thermal pixels find RGB pixels.

    Attributes:
        method: in force.
        misalignment_px: estimated, pixels of the RGB image; None where it is not estimated.
        limit_px: above which the node warns; 0 for never.
        problem: why it is not as it should be, e.g. without camera_info; empty when all is well.
        note: what else there is to say, e.g. why the last estimate was refused.
        figures: what else is to be shown, by name.
    """

    method: str
    misalignment_px: float | None = None
    limit_px: float = 0.0
    problem: str = ""
    note: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ThermalState:
    """How the thermal images are.

    Attributes:
        frozen_s: seconds for which the same picture has come again and again, as while the shutter is closed; 0 for
            not frozen.
        problem: what else is wrong with them, e.g. all of them outside of the fixed range; empty when all is well.
        figures: what is to be shown, by name: range, dead pixels and the like.
    """

    frozen_s: float = 0.0
    problem: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeState:
    """What the node knows of itself when it reports.

    Attributes:
        name: fully qualified node name.
        lifecycle: label of the lifecycle state.
        hardware_id: of the rig; empty for the node's name.
        activity: what configure is at; empty when it is not, or quick.
        problem: why the last configure failed or parameters were refused; empty when all is well.
        model: of the fusion.
        heads: head -> name of its model, empty for none.
        engine: description of the engine.
        instruction: in force; None while unconfigured.
        answer: to the last instruction that was given.
        language_model: how it does; empty where there is none.
        prompt: what made the prompt of the instruction in force; see ``irvf_msgs/ActiveInstruction``.
        streams: topic -> account of its messages; see :class:`irvf_fusion_node.node_statistics.StreamAccounts`.
        publishers: topic -> number of publishers.
        camera_info: what became of the RGB camera's with the last pair.
        lost: topic -> seconds since its last image, of the streams that are lost.
        alone: which stream is published alone because the other one is lost; empty for none.
        registration: None leaves the entry out.
        thermal: likewise.
        health: of the engine; likewise.
    """

    name: str
    lifecycle: str
    hardware_id: str = ""
    activity: str = ""
    problem: str = ""
    model: str = ""
    heads: Mapping[str, str] = field(default_factory=dict)
    engine: str = ""
    instruction: Instruction | None = None
    answer: Answer | None = None
    prompt: str = ""
    language_model: str = ""
    streams: Mapping[str, Counter[str]] = field(default_factory=dict)
    publishers: Mapping[str, int] = field(default_factory=dict)
    camera_info: str = "none"
    lost: Mapping[str, float] = field(default_factory=dict)
    alone: str = ""
    registration: RegistrationState | None = None
    thermal: ThermalState | None = None
    health: Health | None = None
