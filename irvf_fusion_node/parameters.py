"""The node's parameters: declares the table, refuses what does not fit, and reads the configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions

from irvf_fusion_node.configuration import NodeConfig, node_config
from irvf_fusion_node.parameter_table import PARAMETERS, ParameterSpec, check_value

_BUILT_IN = ("use_sim_time", "start_type_description_service")
_QOS_PREFIX = "qos_overrides."
_QOS_POLICIES = [policy.name.lower() for policy in QoSOverridingOptions.with_default_policies().policy_kinds]


class Parameters:
    """Declares the table on a node, refuses what does not fit, and reads the configuration.

    The node must have been made with ``automatically_declare_parameters_from_overrides=True``: that is how unknown
    names in a parameter file are noticed.

    Attributes:
        unknown: one message for each name given at start that is not in the table.
        invalid: name to message for each value given at start that does not fit; configure fails until it is set.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._given = node.get_parameters_by_prefix("")
        self._unused_overrides: set[str] = set()
        self.unknown: list[str] = []
        self.invalid: dict[str, str] = {}
        self._refuse_unknown()
        for name, spec in PARAMETERS.items():
            self._declare(name, spec)

    def _refuse_unknown(self) -> None:
        for name in self._given:
            if name in _BUILT_IN or name.startswith(_QOS_PREFIX):
                continue
            self._node.undeclare_parameter(name)
            if name not in PARAMETERS:
                close = difflib.get_close_matches(name, PARAMETERS, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                self.unknown.append(f"parameter {name!r} is unknown and ignored{hint}")

    def _declare(self, name: str, spec: ParameterSpec) -> None:
        try:
            parameter = self._node.declare_parameter(name, spec.default, spec.descriptor(name))
            problem = check_value(name, parameter.value)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            problem = self._integer_for_double(name, spec) or f"parameter {name!r}: {error}"
        if problem:
            if self._node.has_parameter(name):
                self._node.undeclare_parameter(name)
            self._node.declare_parameter(name, spec.default, spec.descriptor(name), ignore_override=True)
            self.invalid[name] = f"{problem} (set it, then configure again)"

    def _integer_for_double(self, name: str, spec: ParameterSpec) -> str:
        """Say how to write a number that a parameter file gives as ``1``; rclpy tells types only."""
        given = self._given.get(name)
        kind = given.type_ if given else None
        if isinstance(spec.default, float) and kind == Parameter.Type.INTEGER:
            return f"parameter {name!r} is the integer {given.value}; write {given.value}.0"
        if isinstance(spec.default, list) and kind == Parameter.Type.INTEGER_ARRAY:
            return f"parameter {name!r} is a list of integers; write each with a decimal point, 1.0 for 1"
        return ""

    @property
    def topics_with_reliability(self) -> set[str]:
        """Topics whose subscription is given a reliability by an override."""
        end = ".subscription.reliability"
        given = (name for name in self._given if name.startswith(_QOS_PREFIX) and name.endswith(end))
        return {name[len(_QOS_PREFIX) : -len(end)] for name in given}

    def unused_qos_overrides(self, entities: Iterable[str]) -> list[str]:
        """Return one message for each QoS override given at start that none of ``entities`` takes, once.

        Args:
            entities: ``TOPIC.publisher`` or ``TOPIC.subscription`` of all that take overrides.
        """
        used = {f"{_QOS_PREFIX}{entity}.{policy}" for entity in entities for policy in _QOS_POLICIES}
        given = {name for name in self._given if name.startswith(_QOS_PREFIX)}
        unused = given - used - self._unused_overrides
        self._unused_overrides |= unused
        messages = []
        for name in sorted(unused):
            close = difflib.get_close_matches(name, used, n=1)
            messages.append(f"QoS override {name!r} fits no topic{f'; did you mean {close[0]!r}?' if close else ''}")
        return messages

    def check(self, parameters: Sequence[Parameter], *, configured: bool) -> SetParametersResult:
        """Say whether new values can be taken: the callback of ``add_on_set_parameters_callback``."""
        for parameter in parameters:
            spec = PARAMETERS.get(parameter.name)
            if spec is None:
                continue
            problem = check_value(parameter.name, parameter.value)
            if not problem and spec.at_start and parameter.value != self._node.get_parameter(parameter.name).value:
                problem = f"parameter {parameter.name!r} is read when the node starts: set it there"
            if not problem and configured and not (spec.live or spec.at_start):
                problem = f"parameter {parameter.name!r} is read at configure: deactivate and clean up first"
            if problem:
                return SetParametersResult(successful=False, reason=problem)
        for parameter in parameters:
            self.invalid.pop(parameter.name, None)
        return SetParametersResult(successful=True)

    def read(self, changes: Sequence[Parameter] = ()) -> NodeConfig:
        """Return the configuration in force, with ``changes`` that are about to be made.

        Raises:
            ValueError: values that do not fit each other or the scene, e.g. a homography that is not invertible.
        """
        values: dict[str, Any] = {name: self._node.get_parameter(name).value for name in PARAMETERS}
        values.update({change.name: change.value for change in changes if change.name in PARAMETERS})
        return node_config(values)
