"""``irvf evaluate``: compare fusions, under each instruction, by the image and by what task networks find in it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from tqdm import tqdm

from irvf.cli.arguments import set_and_name

if TYPE_CHECKING:
    from irvf.training.data import PairFiles

WHAT = ("fusion", "detection", "segmentation", "saliency")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf evaluate``."""
    parser = commands.add_parser("evaluate", help="measure fusions and what is found in them", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of SET/thermal/NAME and SET/rgb/NAME")
    parser.add_argument("--set", dest="datasets", nargs="+", default=[], help="sets to measure on (default: all)")
    parser.add_argument(
        "--from", dest="first", nargs="+", default=[], metavar="SET=NAME", help="first pair of a set that counts"
    )
    parser.add_argument("--limit", type=int, default=0, help="most pairs of a set, evenly spread (default: all)")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT), help="what is measured (default: all)")
    parser.add_argument(
        "--methods", nargs="+", help="fusion models, plain methods, thermal and rgb (default: all of them that ship)"
    )
    parser.add_argument("--instructions", nargs="+", help="given to models that take one (default: one for each task)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the fusion, as the node's processing_scale; 0..1")
    for task, network in (("detection", "detector"), ("segmentation", "segmentation"), ("saliency", "saliency")):
        parser.add_argument(f"--{network}", dest=task, default=network, help=f"model folder (default: {network})")
    parser.add_argument("--boxes", default="boxes_fusion", help="folder of YOLO boxes in a set; sets without have none")
    parser.add_argument("--output", type=Path, default=Path("runs") / "evaluation", help="folder for report and plots")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--threads", type=int, default=0, help="of the engines; 0 takes all cores")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, write report, tables and plots, and print the report."""
    # Heavy: pycocotools, matplotlib.
    from irvf.evaluation.bootstrap import draw_resamples  # noqa: PLC0415
    from irvf.evaluation.comparison import compare_rows  # noqa: PLC0415
    from irvf.evaluation.figures import set_figures  # noqa: PLC0415
    from irvf.evaluation.plots import write_plots  # noqa: PLC0415
    from irvf.evaluation.report import Report  # noqa: PLC0415
    from irvf.evaluation.rows import INSTRUCTIONS, METHODS, load_networks, make_rows  # noqa: PLC0415
    from irvf.evaluation.truth import TASKS, check_pairs, find_truth  # noqa: PLC0415

    if arguments.threads:
        cv2.setNumThreads(arguments.threads)
    pairs = _choose_pairs(arguments)
    folders = {dataset: entries[0].thermal.parent.parent for dataset, entries in pairs.items()}
    wanted = [task for task in TASKS if task in arguments.what]
    # What a set holds decides which networks are needed; their classes decide how its boxes are read.
    held = {task for folder in folders.values() for task in find_truth(folder, arguments.boxes, ()).tasks}
    tasks = [task for task in wanted if task in held]
    if not tasks and "fusion" not in arguments.what:
        raise ValueError(
            f"nothing to measure: no set has a folder {arguments.boxes!r} of boxes, or true masks for saliency"
        )
    rows = make_rows(
        arguments.methods or METHODS, arguments.instructions or INSTRUCTIONS, arguments.threads, arguments.scale
    )
    networks = load_networks({task: getattr(arguments, task) for task in TASKS}, tasks, arguments.threads)
    truths = {name: find_truth(folder, arguments.boxes, networks.labels) for name, folder in folders.items()}
    check_pairs([pair for entries in pairs.values() for pair in entries], truths, tasks)
    arguments.output.mkdir(parents=True, exist_ok=True)

    results = []
    with tqdm(total=len(rows) * sum(map(len, pairs.values())), unit="image", leave=False) as progress:
        for dataset, entries in pairs.items():
            progress.set_description(dataset)
            fusion = "fusion" in arguments.what
            done = progress.update
            results.append(compare_rows(entries, rows, networks, truths[dataset], fusion=fusion, done=done))
    figures = [
        set_figures(result, draw_resamples(len(result.pairs), arguments.resamples, arguments.seed))
        for result in tqdm(results, desc="intervals", unit="set", leave=False)
    ]
    report = Report(results, figures, networks.names, arguments.resamples, arguments.seed, arguments.scale)
    files = report.write(arguments.output)
    for result in results:
        files += write_plots(result, arguments.output)
    print(report.as_text())
    print(f"\nwritten: {', '.join(map(str, files))}")
    return 0


def _choose_pairs(arguments: argparse.Namespace) -> dict[str, Sequence[PairFiles]]:
    from irvf.evaluation.comparison import spread  # noqa: PLC0415
    from irvf.training.data import find_pairs, hold_back  # noqa: PLC0415

    if arguments.limit < 0:
        raise ValueError(f"--limit {arguments.limit}; give a number of pairs, or 0 for all")
    if arguments.resamples < 1:
        raise ValueError(f"--resamples {arguments.resamples}; at least one is needed")
    first = dict(set_and_name(entry) for entry in arguments.first)
    found = find_pairs(arguments.data, arguments.datasets)
    datasets = list(dict.fromkeys(pair.dataset for pair in found))
    _, kept = hold_back(found, {**dict.fromkeys(datasets, ""), **first})
    chosen: dict[str, Sequence[PairFiles]] = {}
    for dataset in datasets:
        entries = [pair for pair in kept if pair.dataset == dataset]
        if not entries:
            raise ValueError(f"no pair of {dataset} comes at or after {first[dataset]!r}")
        chosen[dataset] = [entries[k] for k in spread(len(entries), arguments.limit)] if arguments.limit else entries
    return chosen
