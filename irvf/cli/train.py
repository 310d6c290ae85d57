"""``irvf train``: make the shipped weights again, or others from data of your own.

On several GPUs: ``accelerate launch -m irvf.cli train ...``.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import yaml

from irvf.image_fusion import image_fusion, image_fusions
from irvf.imaging.classical_fusion import FUSION_METHODS
from irvf.instruction.encoder import load_vocabulary
from irvf.instruction.grammar import load_grammar
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.interpreters import ENCODER, load_encoder
from irvf.instruction.text_encoders import load_text_encoder
from irvf.models import file_digest, load_model

TASK_NETWORKS = ("detection", "segmentation", "saliency")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf train`` with its stages."""
    parser = commands.add_parser("train", help="train the networks (needs torch)", description=__doc__)
    stages = parser.add_subparsers(required=True, metavar="STAGE")
    for name, what, function in (
        ("base", "stage 1, the base fusion network, from aligned pairs without labels", _train_base),
        ("tasks", "the detector, the segmentation and the saliency network, from fused pairs with boxes", _train_tasks),
        (
            "regulation",
            "stage 2, what instructions change in the fusion, through frozen task networks",
            _train_regulation,
        ),
        ("realtime", "the real-time network, a student of the regulated one", _train_realtime),
    ):
        stage = stages.add_parser(name, help=f"train {what}", description=f"Train {what}.")
        stage.add_argument("--data", type=Path, required=True, help="folder of SET/thermal/NAME and SET/rgb/NAME")
        stage.add_argument("--config", type=Path, help=f"YAML file, e.g. config/training/{name}.yaml")
        stage.add_argument("--output", type=Path, default=Path("runs") / name, help="checkpoint and log; resumed from")
        stage.add_argument("--model", type=Path, help="model folder to write (default: OUTPUT/model)")
        stage.add_argument("--steps", type=int, help="overrides the configuration")
        stage.add_argument("--seed", type=int, help="overrides the configuration")
        stage.add_argument(
            "--skip-unusable", action="store_const", const=True, help="leave out, and name, what cannot be read"
        )
        stage.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
        stage.add_argument("--threads", type=int, default=0, help="of the CPU; 0 takes all cores")
        stage.set_defaults(run=partial(_run, function))
        stage.add_argument("--init", type=Path, help="weights to start from, e.g. models/irvf-base/fusion.safetensors")
        if name == "tasks":
            stage.add_argument("--only", choices=TASK_NETWORKS, help="train one network instead of all three")
    _add_meaning(stages)


def _add_meaning(stages: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    what = "what tells what an instruction is about, from example sentences"
    stage = stages.add_parser("meaning", help=f"train {what}", description=f"Train {what}.")
    stage.add_argument("--encoder", default=ENCODER, help=f"model folder of the text encoder (default: {ENCODER})")
    stage.add_argument("--examples", type=Path, help="YAML file of labels and sentences (default: the package's own)")
    stage.add_argument("--output", type=Path, help="folder for meaning.safetensors (default: the encoder's)")
    stage.set_defaults(run=_train_meaning)


def _run(function: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    try:
        import torch  # noqa: PLC0415  (only training needs it)

        from irvf.training.processes import process_device, process_rank  # noqa: PLC0415
    except ImportError as error:
        raise RuntimeError(
            f"training needs more than running does ({error}): make env, or pip install -r requirements/test.txt"
        ) from error
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        cv2.setNumThreads(arguments.threads)
    arguments.device = process_device(arguments.device)
    arguments.model = arguments.model or arguments.output / "model"
    arguments.writes = process_rank() == 0
    function(arguments)
    if arguments.writes:
        print(f"model written to {arguments.model}")
    return 0


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line overrides in a configuration."""
    names = ("steps", "seed", "skip_unusable")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _train_base(arguments: argparse.Namespace) -> None:
    from irvf.training.base import BaseTrainingConfig, train_base  # noqa: PLC0415  (as above)
    from irvf.training.config import load_config  # noqa: PLC0415
    from irvf.training.export import export_base  # noqa: PLC0415

    config = load_config(BaseTrainingConfig, arguments.config, **_given(arguments))
    network = train_base(arguments.data, arguments.output, config, device=arguments.device, initial=arguments.init)
    if arguments.writes:
        export_base(network, arguments.model)


def _train_tasks(arguments: argparse.Namespace) -> None:
    from irvf.training import export  # noqa: PLC0415  (as above)
    from irvf.training.config import load_config  # noqa: PLC0415
    from irvf.training.detector import train_detector  # noqa: PLC0415
    from irvf.training.masks import train_saliency, train_segmentation  # noqa: PLC0415
    from irvf.training.task_networks import TasksTrainingConfig  # noqa: PLC0415

    if arguments.init and not arguments.only:
        raise ValueError("--init holds the weights of one network: say which with --only")
    config = load_config(TasksTrainingConfig, arguments.config)
    where = {"device": arguments.device, "initial": arguments.init}
    for task in [arguments.only] if arguments.only else TASK_NETWORKS:
        settings = dataclasses.replace(getattr(config, task), **_given(arguments))
        output, model = arguments.output / task, arguments.model / task
        labels, size = settings.annotation.labels, settings.input_size
        if task == "detection":
            fusers = [image_fusion(name, arguments.threads) for name in settings.fusions]
            detector = train_detector(arguments.data, output, settings, fusers, **where)
            write = partial(export.export_detector, detector, model, labels, size)
        elif task == "segmentation":
            fuse = image_fusion(settings.fusion, arguments.threads)
            segmentation = train_segmentation(arguments.data, output, settings, fuse, **where)
            write = partial(export.export_segmentation, segmentation, model, labels, size)
        else:
            fuse = image_fusion(settings.fusion, arguments.threads)
            saliency = train_saliency(arguments.data, output, settings, fuse, **where)
            write = partial(export.export_saliency, saliency, model, size)
        if arguments.writes:
            write()


def _train_regulation(arguments: argparse.Namespace) -> None:
    from irvf.networks.base_fusion import BaseFusionNetwork  # noqa: PLC0415  (as above)
    from irvf.training.checkpoint import load_weights  # noqa: PLC0415
    from irvf.training.config import load_config  # noqa: PLC0415
    from irvf.training.export import export_fixed, export_regulated  # noqa: PLC0415
    from irvf.training.instruction_embeddings import Instructions  # noqa: PLC0415
    from irvf.training.regulation import RegulationTrainingConfig, train_regulation  # noqa: PLC0415
    from irvf.training.task_networks import load_task_networks  # noqa: PLC0415
    from irvf.training.wordings import load_wordings  # noqa: PLC0415

    config = load_config(RegulationTrainingConfig, arguments.config, **_given(arguments))
    base = BaseFusionNetwork(config.channels, config.blocks, feature_fusion=config.feature_fusion)
    load_weights(base, load_model(config.base, "fusion").path / "fusion.safetensors")
    networks = load_task_networks(config.detector, config.segmentation, config.saliency, len(config.annotation.labels))
    encode = load_text_encoder(config.text_encoder, threads=arguments.threads)
    instructions = Instructions({task: texts.training for task, texts in load_wordings().items()}, encode)
    network = train_regulation(
        arguments.data,
        arguments.output,
        config,
        base=base,
        networks=networks,
        instructions=instructions,
        device=arguments.device,
        initial=arguments.init,
    )
    if not arguments.writes:
        return
    if config.injection == "dynamic":
        export_regulated(network, arguments.model, instructions.centroids(), config.text_encoder)
        return
    for task, centroid in instructions.centroids().items():
        export_fixed(network, arguments.model / task, centroid)


def _train_realtime(arguments: argparse.Namespace) -> None:
    from irvf.training.config import load_config  # noqa: PLC0415  (as above)
    from irvf.training.export import export_realtime  # noqa: PLC0415
    from irvf.training.instruction_embeddings import Instructions  # noqa: PLC0415
    from irvf.training.realtime import RealtimeTrainingConfig, train_realtime  # noqa: PLC0415
    from irvf.training.task_networks import load_task_networks  # noqa: PLC0415
    from irvf.training.wordings import load_wordings  # noqa: PLC0415

    config = load_config(RealtimeTrainingConfig, arguments.config, **_given(arguments))
    networks = load_task_networks(config.detector, config.segmentation, config.saliency, len(config.annotation.labels))
    encode = load_text_encoder(config.text_encoder, threads=arguments.threads)
    instructions = Instructions({task: texts.training for task, texts in load_wordings().items()}, encode)
    taught = [task for task in dict.fromkeys(config.order) if any(config.weights[task].reference)]
    network = train_realtime(
        arguments.data,
        arguments.output,
        config,
        teacher=image_fusions(config.teacher, taught, arguments.threads),
        teacher_digest=_fusion_digest(config.teacher),
        networks=networks,
        instructions=instructions,
        device=arguments.device,
        initial=arguments.init,
    )
    if arguments.writes:
        export_realtime(network, arguments.model, instructions.centroids(), config.text_encoder)


def _fusion_digest(name: str) -> str:
    """Return what tells a fusion from others: the name of a plain method, the digests of a model's files."""
    if name in FUSION_METHODS:
        return name
    model = load_model(name, "fusion")
    return "".join(file_digest(path)[:8] for path in (model.onnx, model.weights) if path)


def _train_meaning(arguments: argparse.Namespace) -> int:
    from irvf.training.export import write_config  # noqa: PLC0415  (as above)
    from irvf.training.meaning import learn, load_examples, save  # noqa: PLC0415

    model = load_model(arguments.encoder, "text_encoder")
    if model.tokenizer is None:
        raise ValueError(f"model {model.path} names no tokenizer in its config.yaml")
    interpreter = Interpreter(load_grammar(), is_word=load_vocabulary(model.tokenizer))
    learnt = learn(load_examples(arguments.examples), load_encoder(arguments.encoder), interpreter)
    folder = arguments.output or model.path
    folder.mkdir(parents=True, exist_ok=True)
    save(learnt, folder / "meaning.safetensors")
    if folder == model.path:
        content = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        write_config(folder, {**content, "meaning": "meaning.safetensors"})
    print(
        f"of sentences not learnt from: topic right {learnt.topics_right:.1%}, followed as meant "
        f"{learnt.understood:.1%}, otherwise {learnt.wrong:.1%}, off-topic followed {learnt.off_topic_followed:.1%}\n"
        f"written: {folder / 'meaning.safetensors'}"
    )
    return 0
