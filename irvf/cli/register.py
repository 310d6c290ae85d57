"""``irvf register``: measure on aligned pairs how well ``auto`` registration finds a known misalignment."""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict
from pathlib import Path

import cv2
from tqdm import tqdm


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf register``."""
    parser = commands.add_parser("register", help="measure the automatic registration", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of SET/thermal/NAME and SET/rgb/NAME")
    parser.add_argument("--set", dest="datasets", nargs="+", default=[], help="sets to measure on (default: all)")
    parser.add_argument("--limit", type=int, default=0, help="most pairs of a set, evenly spread (default: all)")
    parser.add_argument("--frames", type=int, default=60, help="pairs of each stream")
    parser.add_argument("--corner-px", type=float, default=12.0, help="most that a corner is moved along each axis")
    parser.add_argument("--sequences", type=int, default=8, help="streams of different pairs, of each set")
    parser.add_argument("--seed", type=int, default=0, help="of the warps")
    parser.add_argument("--threads", type=int, default=0, help="of OpenCV; 0 takes all cores")
    parser.add_argument("--output", type=Path, help="file for the figures of each stream (CSV)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the table."""
    from irvf.evaluation.comparison import spread  # noqa: PLC0415
    from irvf.evaluation.registration import measure_registration, registration_table  # noqa: PLC0415
    from irvf.training.data import find_pairs  # noqa: PLC0415

    for name, least in (("limit", 0), ("frames", 1), ("sequences", 0), ("corner_px", 0)):
        if getattr(arguments, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(arguments, name)}; it must be {least} or more")
    if arguments.threads:
        cv2.setNumThreads(arguments.threads)
    found = find_pairs(arguments.data, arguments.datasets)
    runs = []
    for dataset in dict.fromkeys(pair.dataset for pair in found):
        pairs = [pair for pair in found if pair.dataset == dataset]
        if arguments.limit:
            pairs = [pairs[index] for index in spread(len(pairs), arguments.limit)]
        with tqdm(desc=dataset, total=len(pairs) + min(arguments.sequences, len(pairs) // 2), leave=False) as progress:
            runs += measure_registration(
                pairs,
                frames=arguments.frames,
                corner_px=arguments.corner_px,
                sequences=arguments.sequences,
                seed=arguments.seed,
                done=progress.update,
            )
    print(registration_table(runs))
    print(
        "\nerrors: mean over the four corners, px; median and 90th percentile of the streams. repeated: without the "
        "misalignment that the set has of its own, as found on the same images without a warp"
    )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        with arguments.output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(runs[0])))
            writer.writeheader()
            writer.writerows(asdict(each) for each in runs)
        print(f"written: {arguments.output}")
    return 0
