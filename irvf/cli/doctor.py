"""``irvf doctor``: what is installed, which engines run, which models are there, and how to mend what is wrong."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from irvf.engines.engine import EngineError
from irvf.engines.factory import ENGINE_NAMES, create_engine, missing_engine
from irvf.instruction.text_encoders import load_text_encoder
from irvf.models import Model, ModelError, available_models, load_model, model_roots
from irvf.pipeline import FusionPipeline, PipelineConfig

GOOD, MISSING, WRONG = "ok", "--", "!!"
_IMPORT_WITHIN = 120


@dataclass(frozen=True)
class Finding:
    """One line of the report: ``ok``, ``--`` (absent, only needed for some things) or ``!!`` (must be mended)."""

    mark: str
    subject: str
    detail: str


_PACKAGES = {  # name to import -> (name on PyPI, what needs it, whether nothing works without it)
    "numpy": ("numpy", "everything", True),
    "cv2": ("opencv-python-headless", "everything", True),
    "yaml": ("PyYAML", "everything", True),
    "onnxruntime": ("onnxruntime", "running the networks", True),
    "openvino": ("openvino", "running the networks faster on a CPU", False),
    "rosbags": ("rosbags", "irvf bag and irvf replay", False),
    "tqdm": ("tqdm", "irvf bag, replay and train", False),
    "tokenizers": ("tokenizers", "instructions that change the fused image", False),
    "safetensors": ("safetensors", "instructions that change the fused image, and irvf train", False),
    "torch": ("torch", "irvf train, the engine torch, detectors of transformers and ultralytics", False),
    "onnx": ("onnx", "irvf train and irvf export, to write networks", False),
    "pycocotools": ("pycocotools", "irvf evaluate and irvf export int8", False),
}
_ROS = {
    "rclpy": "the node",
    "sensor_msgs": "the node",
    "tf2_msgs": "the node (apt: ros-$ROS_DISTRO-tf2-msgs)",
    "vision_msgs": "the node (apt: ros-$ROS_DISTRO-vision-msgs)",
    "irvf_msgs": "the node (make env-demo, or colcon build in ros2_ws and source install/setup.bash)",
    "cv_bridge": "the parameter image_conversion: cv_bridge",
}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf doctor``."""
    parser = commands.add_parser("doctor", help="check the installation", description=__doc__)
    parser.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Print the report; 1 if something must be mended."""
    findings = [*_machine(), *_packages(), *_ros(), *_models(), *_engines()]
    for finding in findings:
        print(f"{finding.mark}  {finding.subject:<22} {finding.detail}")
    wrong = sum(finding.mark == WRONG for finding in findings)
    print(f"\n{wrong} things to mend (marked !!)" if wrong else "\nall that irvf needs is here")
    return 1 if wrong else 0


def _machine() -> Iterator[Finding]:
    supported = sys.version_info >= (3, 10)
    mend = "" if supported else "; Python 3.10 or newer is needed"
    yield Finding(
        GOOD if supported else WRONG,
        "machine",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores{mend}",
    )


def _packages() -> Iterator[Finding]:
    for module, (package, use, needed) in _PACKAGES.items():
        found, detail = _probe(module)
        if found:
            yield Finding(GOOD, package, detail)
        else:
            yield Finding(WRONG if needed else MISSING, package, f"{detail}; for {use}: pip install {package}")


def _ros() -> Iterator[Finding]:
    distribution = os.environ.get("ROS_DISTRO", "")
    if not distribution:
        yield Finding(
            MISSING, "ROS 2", "not sourced; for the node: source /opt/ros/DISTRO/setup.bash, or make env-demo"
        )
        return
    domain, reach = (os.environ.get(name, "not set") for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"))
    yield Finding(GOOD, "ROS 2", f"{distribution}, domain {domain}, discovery range {reach}")
    for module, use in _ROS.items():
        found, detail = _probe(module)
        optional = module == "cv_bridge"
        if found:
            yield Finding(GOOD, module, detail)
        else:
            yield Finding(MISSING if optional else WRONG, module, f"{detail}; for {use}")


def _probe(module: str) -> tuple[bool, str]:
    """Import a module in a process of its own, so that a broken one cannot take this one with it."""
    if importlib.util.find_spec(module) is None:
        return False, "not installed"
    script = (
        f"import {module} as m, importlib.metadata as d\n"
        f"names = d.packages_distributions().get({module!r}, [{module!r}])\n"
        "try: print(d.version(names[0]))\n"
        "except d.PackageNotFoundError: print(getattr(m, '__version__', 'installed'))"
    )
    try:
        done = subprocess.run(  # noqa: S603  (this interpreter, fixed names)
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=_IMPORT_WITHIN, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"not imported within {_IMPORT_WITHIN} s"
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return False, f"cannot be imported: {reason[:160]}"
    return True, done.stdout.strip()


def _models() -> Iterator[Finding]:
    models = available_models()
    if not models:
        searched = ", ".join(map(str, model_roots())) or "no folder"
        yield Finding(WRONG, "models", f"none found in {searched}; set IRVF_MODEL_PATH to a folder of model folders")
    for name, path in models.items():
        try:
            model = load_model(name)
        except ModelError as error:
            yield Finding(WRONG, f"model {name}", str(error))
            continue
        card = "" if (path / "MODEL_CARD.md").is_file() else ", no model card"
        yield Finding(GOOD, f"model {name}", f"{model.kind}, licence {model.licence}{card}, {path}")


def _engines() -> Iterator[Finding]:
    for engine in ENGINE_NAMES:
        missing = "" if engine == "auto" else missing_engine(engine)
        if missing:
            yield Finding(MISSING, f"engine {engine}", missing)
            continue
        for name in available_models():
            yield _try_engine(engine, name)


def _try_engine(engine: str, name: str) -> Finding:
    subject = f"engine {engine}, {name}"
    try:
        model = load_model(name)
    except ModelError:
        return Finding(WRONG, subject, "the model folder is malformed, see above")
    if engine == "torch" and model.kind != "text_encoder" and model.network.architecture is None:
        return Finding(MISSING, subject, "its config.yaml does not say what torch could make of its weights")
    try:
        return Finding(GOOD, subject, _run_once(engine, model))
    except (EngineError, ValueError) as error:
        return Finding(WRONG, subject, f"{error}; copy the model folder again, or reinstall the engine")


def _run_once(engine: str, model: Model) -> str:
    """Run a network as the program does, and return the description of its engine."""
    if model.kind == "text_encoder":
        load_text_encoder(str(model.path), engine)("viewing")
        return create_engine("auto" if engine in ("tensorrt", "torch") else engine, model.network).description

    def folder(kind: str, otherwise: str = "") -> str:
        return str(model.path) if kind == model.kind else otherwise

    heads = folder("detector"), folder("segmentation"), folder("saliency")
    pipeline = FusionPipeline(PipelineConfig(folder("fusion", "max"), *heads, engine=engine))
    pipeline.warm_up()
    return pipeline.engine_description
