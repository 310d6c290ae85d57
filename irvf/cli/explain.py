"""``irvf explain``: what the node would understand of an instruction, without a node."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

from irvf.evaluation.sentences import load_sentences, measure, merged
from irvf.instruction.fallback_interpreter import FallbackInterpreter, with_language_model
from irvf.instruction.instruction import Instruction
from irvf.instruction.interpreter import Interpretation, Interpreter
from irvf.instruction.interpreters import ENCODER, load_interpreter
from irvf.instruction.tasks import VIEWING


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf explain``."""
    parser = commands.add_parser("explain", help="show what is understood of an instruction", description=__doc__)
    parser.add_argument("text", nargs="*", help="instructions, one after the other as the node would get them")
    parser.add_argument("--tasks-file", type=Path, help="YAML file with tasks and words of your own")
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="that your detector knows (default: person bicycle car)",
    )
    parser.add_argument(
        "--encoder", default=ENCODER, help=f"text encoder for the meaning (default: {ENCODER}); '' for words alone"
    )
    parser.add_argument("--language-model", type=Path, metavar="FOLDER", help="that reads the instructions first")
    parser.add_argument("--sentences", type=Path, help="YAML file of sentences with what they mean: measure on it")
    parser.add_argument("--failures", action="store_true", help="with --sentences: show what is not exactly right")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what is understood; 1 where something is not."""
    if not arguments.text and not arguments.sentences:
        raise ValueError("give an instruction, e.g. irvf explain 'only the cyclists', or --sentences FILE")
    heads = ("detection", "segmentation")
    known = {head: tuple(arguments.classes) for head in heads} if arguments.classes else None
    interpreter = load_interpreter(arguments.tasks_file, known, arguments.encoder)
    reader: Interpreter | FallbackInterpreter = interpreter
    if arguments.language_model:
        reader = with_language_model(interpreter, arguments.language_model)
    if arguments.sentences:
        _measure(
            arguments.sentences, reader, arguments.classes or interpreter.grammar.classes, failures=arguments.failures
        )
    return _explain(arguments.text, reader) if arguments.text else 0


def _explain(texts: list[str], interpreter: Interpreter | FallbackInterpreter) -> int:
    current: Instruction | None = None
    understood = True
    for number, text in enumerate(texts):
        started = time.perf_counter()
        read = interpreter.interpret(text, current)
        taken = (time.perf_counter() - started) * 1e3
        if number:
            print()
        print(f"text         {read.text!r}")
        try:
            current = read.instruction(1, current, default=VIEWING) if read.accepted else current
        except ValueError as error:
            read = Interpretation(read.text, accepted=False, message=str(error))
        understood = understood and read.accepted
        lines = _accepted(read, current) if read.accepted and current else {"refused": read.message}
        for name, value in {**lines, "time": f"{taken:.1f} ms"}.items():
            print(f"{name:12s} {value}")
    return 0 if understood else 1


def _accepted(read: Interpretation, current: Instruction) -> dict[str, str]:
    return {
        "understood": f"{read.message} (by its {read.source}, confidence {read.confidence:.2f})",
        "task": current.task.name + ("" if read.task else " (as before)"),
        "classes": ", ".join(current.classes) or "all",
        "heads": ", ".join(current.task.heads) or "none",
        "effects": ", ".join(map(str, current.effects)) or "none",
    }


def _measure(
    path: Path, interpreter: Interpreter | FallbackInterpreter, known: Iterable[str], *, failures: bool
) -> None:
    tallies = measure(load_sentences(path), interpreter, known)
    print("| language | category | sentences | task right | refused | wrong task | all right |")
    print("|---|---|---|---|---|---|---|")
    for (language, category), tally in sorted(tallies.items()):
        counts = tally.counts
        print(
            f"| {language} | {category} | {tally.total} | {counts['right']} | {counts['refused']} | {counts['wrong']} "
            f"| {counts['exact']} |"
        )
    others = sorted({language for language, _ in tallies} - {"en"})
    for name, languages in (("English", ["en"]), ("other languages", others)):
        about, off = (merged(tallies, languages, off_topic=off_topic) for off_topic in (False, True))
        if about.total and off.total:
            both = about.total + off.total
            print(
                f"\n{name}: task right {_share(about.counts['right'], about.total)}, all right "
                f"{_share(about.counts['exact'], about.total)}, off-topic refused "
                f"{_share(off.counts['right'], off.total)}, wrong task "
                f"{_share(about.counts['wrong'] + off.counts['wrong'], both)}"
            )
    if failures:
        for tally in tallies.values():
            for sentence, read in tally.failures:
                print(f"\n{sentence.text!r}\n  {sentence.category}: {read.message}")


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})"
