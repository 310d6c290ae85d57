"""``make demo``: renders a night street, or takes a recording of the user's, and plays it through the real node."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from irvf.cli.__main__ import main as irvf

from .bag import write_recording
from .config import RigConfig

SEQUENCE = RigConfig(duration_s=8.0)
SKY_PERCENT = 18.0
"""Share of the simulated thermal picture that is cold sky: left out of the range, it does not push all else to grey."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit code of ``irvf replay``."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--bag", type=Path, help="rosbag2 to play; without it, one is rendered")
    parser.add_argument("--instruction", help="given half way through")
    parser.add_argument("--thermal-topic")
    parser.add_argument("--rgb-topic")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    chosen = parser.parse_args(arguments)
    given = {
        "--instruction": chosen.instruction,
        "--thermal-topic": chosen.thermal_topic,
        "--rgb-topic": chosen.rgb_topic,
    }
    bag = chosen.bag
    if bag is None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        bag = chosen.out / "rig.mcap"
        parameters, _ = write_recording(bag, SEQUENCE)
        content = yaml.safe_load(parameters.read_text("utf-8"))
        content["/**"]["ros__parameters"]["thermal.low_percentile"] = SKY_PERCENT
        parameters.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        given["--params-file"] = str(parameters)
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    return irvf(["replay", str(bag), f"--out={chosen.out}", *options])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
