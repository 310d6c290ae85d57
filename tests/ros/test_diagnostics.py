"""What a person at rqt_robot_monitor sees: the right level, that does not flap, and each change once in the log."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticStatus

from irvf_fusion_node.diagnostic_levels import FALL_AFTER, RISE_AFTER
from irvf_fusion_node.diagnostics import LOST_AFTER, STALE_AFTER, STALL_AFTER, DiagnosticReporter
from irvf_fusion_node.engine_health import Health
from irvf_fusion_node.node_state import NodeState, RegistrationState, ThermalState
from irvf_fusion_node.node_statistics import Snapshot

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
THERMAL, RGB = "/rig/thermal/image_raw", "/rig/rgb/image_raw"
WELL = Snapshot(
    counts={}, latency_ms={}, gap_ms=1.0, rate=30.0, since_fused=0.03, formed=0, refused=0, last_refusal=""
)  # fmt: skip
ACTIVE = NodeState(
    "/rig/irvf_fusion_node",
    "active",
    streams={topic: Counter(received=100, paired=100) for topic in (THERMAL, RGB)},
    publishers={THERMAL: 1, RGB: 1},
    registration=RegistrationState("auto", misalignment_px=0.6, limit_px=3.0),
    thermal=ThermalState(),
    health=Health("running", "", is_error=False, engine="openvino", hung_threads=0),
)


class Monitor:
    """Reports once a second, as the node does."""

    def __init__(self):
        self.reporter = DiagnosticReporter()
        self.now = 1000.0
        self.log = []
        self.entries = {}

    def second(self, state=ACTIVE, snapshot=WELL):
        self.now += 1.0
        entries, changes = self.reporter.report(state, snapshot, self.now)
        self.log += changes
        self.entries = {entry.name.partition(": ")[2]: entry for entry in entries}
        return self.entries

    def levels(self, part, state=ACTIVE, snapshot=WELL, seconds=1):
        return [self.second(state, snapshot)[part].level for _ in range(seconds)]


def apart(pixels):
    return replace(ACTIVE, registration=replace(ACTIVE.registration, misalignment_px=pixels))


@pytest.fixture
def monitor():
    made = Monitor()
    made.second()
    return made


def test_all_is_well(monitor):
    entries = monitor.second()
    assert list(entries) == ["fusion", "input streams", "instruction", "registration", "thermal", "engine"]
    assert {entry.level for entry in entries.values()} == {OK}
    assert {entry.name for entry in entries.values()} == {f"rig/irvf_fusion_node: {part}" for part in entries}
    assert "0.6 px" in entries["registration"].message
    assert monitor.log == []


def test_the_hardware_id_is_the_rig_whatever_the_engine_is(monitor):
    assert {entry.hardware_id for entry in monitor.second().values()} == {"rig/irvf_fusion_node"}
    named = replace(ACTIVE, hardware_id="front rig, serial 17", engine="onnxruntime 1.20")
    assert {entry.hardware_id for entry in monitor.second(named).values()} == {"front rig, serial 17"}


def test_a_moment_is_not_shown(monitor):
    for _ in range(20):  # above the limit in every other report
        assert monitor.levels("registration", apart(9.0)) == [OK]
        assert monitor.levels("registration") == [OK]
    assert monitor.log == []


def test_what_holds_is_shown_and_stays_until_it_has_been_good_for_some_time(monitor):
    rising = monitor.levels("registration", apart(9.0), seconds=4)
    assert rising == [OK, OK, WARN, WARN]  # it held for 2 s, and RISE_AFTER is 1.5
    assert RISE_AFTER < 2.0
    assert "9.0 px apart, more than 3.0" in monitor.entries["registration"].message
    for _ in range(5):  # about the limit: no flapping
        assert monitor.levels("registration", apart(2.0), seconds=3) == [WARN] * 3
        assert monitor.levels("registration", apart(4.0)) == [WARN]
    falling = monitor.levels("registration", seconds=7)
    assert falling == [WARN] * 5 + [OK] * 2
    assert 4.0 < FALL_AFTER < 5.0
    assert [level for level, _ in monitor.log] == [WARN, OK]
    assert all(text.startswith("registration: ") for _, text in monitor.log)


def test_a_level_that_falls_tells_how_long_it_has_been_better(monitor):
    monitor.levels("registration", apart(9.0), seconds=4)
    monitor.levels("registration", seconds=3)
    message = monitor.entries["registration"].message
    assert "9.0 px" in message
    assert "better for 2 s" in message
    assert monitor.entries["registration"].values[1].value == "0.60"  # the figures are those of this moment


def silent(seconds):
    return replace(WELL, since_fused=seconds, rate=0.0)


def test_silence_is_a_warning_and_then_an_error(monitor):
    assert monitor.levels("input streams", snapshot=silent(STALL_AFTER - 0.1)) == [OK]
    assert monitor.levels("input streams", snapshot=silent(STALL_AFTER + 0.1)) == [WARN]  # it is a time already
    nobody = replace(ACTIVE, publishers={THERMAL: 0, RGB: 1})
    monitor.second(nobody, silent(LOST_AFTER - 1))
    assert f"nobody publishes {THERMAL}" in monitor.entries["input streams"].message
    assert monitor.levels("input streams", nobody, silent(LOST_AFTER + 0.1)) == [ERROR]


def test_figures_of_long_ago_are_stale(monitor):
    assert monitor.levels("thermal", snapshot=silent(STALE_AFTER - 1)) == [OK]
    monitor.second(snapshot=silent(STALE_AFTER + 1))
    assert {part for part, entry in monitor.entries.items() if entry.level == STALE} == {"thermal", "registration"}
    assert monitor.levels("thermal", seconds=6)[-1] == OK
    assert [text.partition(":")[0] for _, text in monitor.log] == ["input streams"] * 2  # that says it once


def test_a_lost_camera_is_named_and_so_is_what_goes_on_alone(monitor):
    state = replace(ACTIVE, lost={THERMAL: 12.0}, alone="rgb")
    entry = monitor.second(state)["input streams"]
    assert entry.level == WARN
    assert f"{THERMAL} for 12 s" in entry.message
    assert "rgb is published alone" in entry.message
    values = {value.key: value.value for value in entry.values}
    assert values[f"{THERMAL}.lost_s"] == "12.0"
    assert values["alone"] == "rgb"
    entry = monitor.second(replace(state, alone=""), silent(12.0))["input streams"]
    assert entry.level == ERROR
    assert THERMAL in entry.message


def test_a_frozen_thermal_camera(monitor):
    entry = monitor.second(replace(ACTIVE, thermal=ThermalState(frozen_s=1.4, figures={"range": "20..35 C"})))[
        "thermal"
    ]
    assert entry.level == WARN
    assert "1.4 s" in entry.message
    assert {value.key: value.value for value in entry.values}["range"] == "20..35 C"
    hot = replace(ACTIVE, thermal=ThermalState(problem="all of the image is hotter than 40 C"))
    assert monitor.levels("thermal", hot, seconds=3)[-1] == WARN


@pytest.mark.parametrize(("is_error", "level"), [(False, WARN), (True, ERROR)])
def test_an_engine_that_was_replaced(monitor, is_error, level):
    health = Health("running", "openvino hung twice; onnxruntime runs instead", is_error, "onnxruntime", 1)
    snapshot = replace(WELL, counts={"engine.restarted": 1, "engine.fallback": 1})
    entry = monitor.second(replace(ACTIVE, health=health), snapshot)["engine"]
    assert entry.level == level
    assert "onnxruntime runs instead" in entry.message
    values = {value.key: value.value for value in entry.values}
    assert (values["engine.restarted"], values["hung threads"]) == ("1", "1")


def test_what_was_done_on_purpose_shows_at_once(monitor):
    failed = replace(ACTIVE, lifecycle="unconfigured", problem="cannot configure: no model 'x'")
    assert monitor.levels("fusion", failed) == [ERROR]
    assert monitor.levels("fusion", replace(failed, problem="", lifecycle="inactive")) == [OK]
    building = replace(ACTIVE, lifecycle="unconfigured", activity="building an engine: 12%")
    assert monitor.levels("fusion", building) == [WARN]
    assert monitor.levels("fusion") == [OK]  # active in the very next report
    assert monitor.log == []  # the node has said all this itself


def test_refused_pairs_rise_to_an_error_only_when_nothing_is_fused(monitor):
    some = replace(WELL, refused=1, last_refusal="not finite", since_fused=0.1)
    assert monitor.levels("fusion", snapshot=some) == [OK]
    assert monitor.levels("fusion") == [OK]
    assert monitor.levels("fusion", snapshot=some, seconds=3) == [OK, OK, WARN]
    all_of_them = replace(some, since_fused=3.0)
    assert monitor.levels("fusion", snapshot=all_of_them) == [ERROR]
    assert "not finite" in monitor.entries["fusion"].message


def test_a_node_that_is_not_active_warns_of_nothing(monitor):
    monitor.levels("registration", apart(9.0), seconds=4)
    inactive = replace(apart(9.0), lifecycle="inactive")
    entries = monitor.second(inactive, silent(3600.0))
    assert {entry.level for entry in entries.values()} == {OK}


def test_parts_that_a_node_does_not_tell_of_are_left_out():
    monitor = Monitor()
    entries = monitor.second(NodeState("/n", "unconfigured"))
    assert list(entries) == ["fusion", "input streams", "instruction"]


def test_the_aggregator_files_every_part_of_every_rig(monitor):
    file = Path(__file__).resolve().parents[2] / "config" / "diagnostic_aggregator.yaml"
    ((_node, content),) = yaml.safe_load(file.read_text("utf-8")).items()
    analyzers = [value for value in content["ros__parameters"].values() if isinstance(value, dict)]
    names = [entry.name for entry in monitor.second().values()]
    names += [entry.name for entry in monitor.second(replace(ACTIVE, name="/front/fusion/irvf_fusion_node")).values()]
    for name in names:
        (analyzer,) = [one for one in analyzers if any(text in name for text in one["contains"])]
        assert analyzer["timeout"] > 2.0
