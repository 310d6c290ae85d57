"""The floors of the program: an import goes down, never up, and heavy things are imported only where they belong."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = (
    ("irvf.frames", "irvf.paths"),
    ("irvf.imaging", "irvf.networks", "irvf.models", "irvf.bags"),
    ("irvf.engines", "irvf.perception", "irvf.instruction"),
    (
        *("irvf.pipeline", "irvf.settings", "irvf.stage_clock", "irvf.image_fusion"),
        *("irvf.training", "irvf.evaluation", "irvf.calibration"),
    ),
    ("irvf.cli", "irvf_fusion_node"),
)
ROS = {"rclpy", "cv_bridge", "message_filters", "launch", "launch_ros", "ament_index_python", "rcl_interfaces"}
ROS |= {"builtin_interfaces", "rosgraph_msgs"}
TRAINING = ("irvf.networks", "irvf.training")
CHOSEN = (
    "irvf.engines.torch_engine",
    "irvf.instruction.transformers_encoder",
    "irvf.perception.transformers_detector",
    "irvf.perception.ultralytics_detector",
)
"""Imported by a function where a configuration names it, and nowhere else."""
TORCH = {"torch", "safetensors", "onnx"}
HEAVY = {*TORCH, "transformers", "ultralytics", "tensorrt", "pycocotools"}


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path, *, lazy=True):
    """Names of what a file imports; without ``lazy``, only what is imported when the file itself is."""
    pending = [ast.parse(path.read_text("utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending += ast.iter_child_nodes(node)


def within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def floor_of(name):
    return next((number for number, rooms in enumerate(FLOORS) if within(name, rooms)), None)


SOURCES = dict((*modules("irvf"), *modules("irvf_fusion_node")))
LIBRARY = {name: path for name, path in SOURCES.items() if within(name, ["irvf"])}
NODE = {name: path for name, path in SOURCES.items() if within(name, ["irvf_fusion_node"])}


def test_there_is_something_to_look_at():
    assert len(LIBRARY) > 30
    assert len(NODE) > 5


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "irvf"])
def test_every_room_has_a_floor_and_imports_go_down(name):
    floor = floor_of(name)
    assert floor is not None, f"{name} stands on no floor"
    up = [used for used in imports(SOURCES[name]) if (floor_of(used) or 0) > floor]
    assert not up, f"{name} on floor {floor} imports {up}"


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_knows_no_ros(name):
    used = {entry.partition(".")[0] for entry in imports(LIBRARY[name])}
    assert not {
        entry for entry in used if entry in ROS or entry.endswith(("_msgs", "_srvs")) or entry == "irvf_fusion_node"
    }


def test_frames_know_only_numpy():
    used = {entry.partition(".")[0] for entry in imports(LIBRARY["irvf.frames"])}
    assert used - set(sys.stdlib_module_names) == {"numpy"}


def test_floor_one_knows_only_frames_and_itself():
    for name, path in LIBRARY.items():
        if floor_of(name) == 1:
            room = next(room for room in FLOORS[1] if within(name, [room]))
            used = [entry for entry in imports(path) if within(entry, ["irvf"])]
            assert all(within(entry, ["irvf.frames", room]) for entry in used), name


@pytest.mark.parametrize("name", [name for name in SOURCES if not within(name, [*TRAINING, *CHOSEN])])
def test_torch_and_the_like_are_imported_where_networks_are_trained(name):
    # Elsewhere a function may import them when it is called; the evaluation needs its metric anyhow.
    allowed = {"pycocotools"} if within(name, ["irvf.evaluation"]) else set()
    used = {entry.partition(".")[0] for entry in imports(SOURCES[name], lazy=False)}
    assert not used & HEAVY - allowed


@pytest.mark.parametrize("start", ["irvf.pipeline", "irvf.cli.fuse", "irvf.cli.doctor", "irvf_fusion_node.node"])
def test_running_needs_no_training_code(start):
    reached, pending = set(), [start]
    while pending:
        name = pending.pop()
        if name in SOURCES and name not in reached:
            reached.add(name)
            used = list(imports(SOURCES[name], lazy=False))
            pending += used + [entry.rpartition(".")[0] for entry in used]
    assert len(reached) > 3
    assert not [name for name in reached if within(name, [*TRAINING, *CHOSEN, "irvf.evaluation"])]


@pytest.mark.parametrize("name", NODE)
def test_the_node_computes_no_pixel(name):
    assert not {entry.partition(".")[0] for entry in imports(NODE[name])} & {"cv2", "onnxruntime", *HEAVY}
