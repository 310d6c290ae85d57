"""Makes the interpreter of a configuration: its grammar, and what tells the meaning of sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from irvf.instruction.encoder import CachedEncoder, TextEncoder, load_vocabulary
from irvf.instruction.grammar import load_grammar
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.meaning import Meaning
from irvf.instruction.text_encoders import load_text_encoder
from irvf.models import ModelError, load_model

ENCODER = "sentence-encoder"
"""Model folder that tells what instructions are about, where nothing else is said."""


def load_interpreter(
    tasks_file: Path | None = None,
    known_classes: Mapping[str, Iterable[str]] | None = None,
    encoder: str = ENCODER,
    embed: TextEncoder | None = None,
) -> Interpreter:
    """Make an interpreter.

    Args:
        tasks_file: tasks and words of the user's own; None for none. See :func:`irvf.instruction.grammar.load_grammar`.
        known_classes: by head, names of the classes that the models know; None for those of the grammar.
        encoder: model folder of kind ``text_encoder`` with a ``meaning``; empty leaves it at the words.
        embed: the same encoder, where it is loaded already; None loads it.

    Raises:
        GrammarError: the file cannot be used.
        ModelError: no such model folder, or it has no meaning.
        EngineError: the text encoder cannot be loaded.
    """
    grammar = load_grammar(tasks_file, known_classes)
    if not encoder:
        return Interpreter(grammar)
    model = load_model(encoder, "text_encoder")
    if model.tokenizer is None or model.meaning is None:
        raise ModelError(
            f"model {encoder} does not tell what instructions are about: its config.yaml names no meaning; make one "
            "with irvf train meaning, or set instruction.encoder to another text encoder, or to nothing"
        )
    embed = embed or load_encoder(encoder)
    return Interpreter(grammar, Meaning(embed, model.meaning), load_vocabulary(model.tokenizer))


@cache
def default_interpreter() -> Interpreter:
    """Return the interpreter of the package's own grammar and models; made once."""
    return load_interpreter()


def load_encoder(name: str) -> TextEncoder:
    """Load a text encoder for the meaning of instructions; it keeps what it embedded.

    Raises:
        ModelError: no such model folder.
        EngineError: it cannot be loaded.
    """
    # One thread, of an engine whose work stays in it: an instruction that comes must not take cores from the fusion.
    return CachedEncoder(load_text_encoder(name, "onnxruntime", threads=1))
