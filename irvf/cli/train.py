"""``irvf train``: make the shipped weights again, or others from data of your own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2

from irvf.pipeline import image_fusion


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf train base`` and ``irvf train detector``."""
    parser = commands.add_parser("train", help="train the networks (needs torch)", description=__doc__)
    stages = parser.add_subparsers(required=True, metavar="NETWORK")
    for name, what, function in (
        ("base", "the base fusion network, from aligned pairs without labels", _train_base),
        ("detector", "the person / bicycle / car detector, from fused pairs with YOLO boxes", _train_detector),
    ):
        stage = stages.add_parser(name, help=f"train {what}", description=f"Train {what}.")
        stage.add_argument("--data", type=Path, required=True, help="folder of SET/thermal/NAME and SET/rgb/NAME")
        stage.add_argument("--config", type=Path, help=f"YAML file, e.g. config/training/{name}.yaml")
        stage.add_argument("--output", type=Path, default=Path("runs") / name, help="checkpoint and log; resumed from")
        stage.add_argument("--init", type=Path, help="weights to start from, e.g. models/irvf/fusion.safetensors")
        stage.add_argument("--model", type=Path, help="model folder to write (default: OUTPUT/model)")
        stage.add_argument("--steps", type=int, help="overrides the configuration")
        stage.add_argument("--seed", type=int, help="overrides the configuration")
        stage.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
        stage.add_argument("--threads", type=int, default=0, help="of the CPU; 0 takes all cores")
        stage.set_defaults(run=partial(_run, function))


def _run(function: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    try:
        import torch  # noqa: PLC0415  (only training needs it)
    except ImportError as error:
        raise RuntimeError(
            "training needs torch: run make env, or pip install torch onnx onnxscript safetensors"
        ) from error
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        cv2.setNumThreads(arguments.threads)
    arguments.model = arguments.model or arguments.output / "model"
    function(arguments)
    print(f"model written to {arguments.model}")
    return 0


def _train_base(arguments: argparse.Namespace) -> None:
    from irvf.training.base import BaseTrainingConfig, train_base  # noqa: PLC0415  (as above)
    from irvf.training.config import load_config  # noqa: PLC0415
    from irvf.training.export import export_base  # noqa: PLC0415

    config = load_config(BaseTrainingConfig, arguments.config, steps=arguments.steps, seed=arguments.seed)
    network = train_base(arguments.data, arguments.output, config, device=arguments.device, initial=arguments.init)
    export_base(network, arguments.model)


def _train_detector(arguments: argparse.Namespace) -> None:
    from irvf.training.config import load_config  # noqa: PLC0415  (as above)
    from irvf.training.detector import DetectorTrainingConfig, train_detector  # noqa: PLC0415
    from irvf.training.export import export_detector  # noqa: PLC0415

    config = load_config(DetectorTrainingConfig, arguments.config, steps=arguments.steps, seed=arguments.seed)
    fusers = [image_fusion(name, arguments.threads) for name in config.fusions]
    where = {"device": arguments.device, "initial": arguments.init}
    network = train_detector(arguments.data, arguments.output, config, fusers, **where)
    export_detector(network, arguments.model, config.labels, config.input_size)
