"""Entry point of the ``irvf`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from irvf.cli import bag, doctor, evaluate, fuse, replay, train

COMMANDS = (fuse, bag, replay, doctor, train, evaluate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 it found something wrong, 2 unusable arguments or files."""
    parser = argparse.ArgumentParser(prog="irvf", description="Instruction-driven fusion of thermal and RGB images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_command(commands)
    parsed = parser.parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"irvf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
