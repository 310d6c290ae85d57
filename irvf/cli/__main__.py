"""Entry point of the ``irvf`` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = (
    *("fuse", "explain", "instruct", "bag", "replay", "calibrate", "doctor"),
    *("train", "evaluate", "register", "export", "bench", "soak"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 it found something wrong, 2 unusable arguments or files."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="irvf", description="Instruction-driven fusion of thermal and RGB images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        try:
            importlib.import_module(f"irvf.cli.{name}").add_command(commands)
        except ImportError as error:  # noqa: PERF203  (the other commands run without, the doctor says what to do)
            commands.add_parser(name, help=f"cannot run here: {error}")
            if given[:1] == [name]:
                return _refuse(error)
    parsed = parser.parse_args(given)
    try:
        code: int = parsed.run(parsed)
    except ImportError as error:
        return _refuse(error)
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        print(f"irvf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def _refuse(error: ImportError) -> int:
    print(f"irvf: {error}; irvf doctor says what is needed for what", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
