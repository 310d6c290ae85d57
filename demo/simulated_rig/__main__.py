"""Command line: ``python -m simulated_rig OUT.mcap`` writes a recording of the simulated rig."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .bag import write_recording
from .config import LIGHTS, RigConfig


def main(arguments: list[str] | None = None) -> int:
    """Write a recording; return the exit status."""
    default = RigConfig()
    parser = argparse.ArgumentParser(prog="python -m simulated_rig", description=__doc__)
    parser.add_argument("out", type=Path, help="OUT.mcap, OUT.db3 (sqlite3) or a bag folder; replaced if it exists")
    parser.add_argument("--duration", type=float, default=default.duration_s, help="seconds (default %(default)s)")
    parser.add_argument("--rate", type=float, default=default.rate_hz, help="frames a second (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=default.seed, help="another seed, other people (default %(default)s)"
    )
    parser.add_argument("--light", choices=LIGHTS, default=default.light, help="time of day (default %(default)s)")
    parser.add_argument("--night", dest="light", action="store_const", const="night", help="the same as --light night")
    parser.add_argument("--day", dest="light", action="store_const", const="day", help="the same as --light day")
    parser.add_argument(
        "--thermal-every", type=int, default=default.thermal_every, help="a thermal frame with every n-th (default 1)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    chosen = parser.parse_args(arguments)
    try:
        config = RigConfig(
            seed=chosen.seed,
            duration_s=chosen.duration,
            rate_hz=chosen.rate,
            light=chosen.light,
            thermal_every=chosen.thermal_every,
        )
    except ValueError as error:
        parser.error(str(error))
    parameters, truth = write_recording(chosen.out, config, progress=not chosen.quiet)
    sys.stdout.write(f"{chosen.out}: {config.frames} frames\n{parameters}: parameters for the node\n{truth}: boxes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
