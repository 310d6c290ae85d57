"""``irvf evaluate``: compare fusions on pairs that no training saw."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from irvf.imaging.classical_fusion import FUSION_METHODS


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf evaluate fusion`` and ``irvf evaluate detector``."""
    parser = commands.add_parser("evaluate", help="measure fusions and the detector", description=__doc__)
    parser.add_argument("what", choices=("fusion", "detector"))
    parser.add_argument("--data", type=Path, required=True, help="folder of SET/thermal/NAME and SET/rgb/NAME")
    parser.add_argument("--set", dest="dataset", default="msrs", help="the set to measure on (default: msrs)")
    parser.add_argument("--from", dest="first", default="", help="name of the first pair that counts (default: all)")
    parser.add_argument("--methods", nargs="+", default=["irvf", *FUSION_METHODS], help="models and plain methods")
    parser.add_argument("--detector", default="detector", help="model folder")
    parser.add_argument("--boxes", default="boxes_fusion", help="folder of YOLO boxes in the set")
    parser.add_argument("--threads", type=int, default=0, help="of the engine; 0 takes all cores")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a Markdown table, a row a method."""
    from irvf.evaluation.comparison import compare_detection, compare_fusion  # noqa: PLC0415  (pycocotools, slow)
    from irvf.training.data import find_pairs, hold_back  # noqa: PLC0415

    _, pairs = hold_back(find_pairs(arguments.data, (arguments.dataset,)), {arguments.dataset: arguments.first})
    if not pairs:
        raise ValueError(f"no pair of {arguments.dataset} comes at or after {arguments.first!r}")
    progress = tqdm(total=len(pairs) * len(arguments.methods), unit="image", leave=False)
    if arguments.what == "fusion":
        rows = compare_fusion(pairs, arguments.methods, arguments.threads, progress.update)
    else:
        rows = compare_detection(
            pairs,
            arguments.methods,
            arguments.detector,
            arguments.boxes,
            threads=arguments.threads,
            done=progress.update,
        )
    progress.close()
    columns = list(next(iter(rows.values())))
    print(f"{len(pairs)} pairs of {arguments.dataset}, {pairs[0].name} to {pairs[-1].name}\n")
    print(f"| fusion | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{row[column]:.3f}' for column in columns)} |")
    return 0
