"""The text encoder: an instruction as one vector."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irvf.engines.engine import Engine
from irvf.models import ModelError

MAX_TOKENS = 128
"""What is read of a text; the rest is left out. The longest instruction has 200 characters."""

KEPT = 256
"""Texts whose embeddings are kept."""

_INPUTS = ("input_ids", "attention_mask")
OUTPUT = "sentence_embedding"
"""Output of the graph, named as other exports of sentence encoders name it."""


TextEncoder = Callable[[str], NDArray[np.float32]]
"""Maps a text to its embedding ``[T]``, of unit length."""


class CachedEncoder:
    """Keeps the embeddings of the last texts; may be called from several threads if the encoder may.

    Args:
        encoder: embeds a text as ``[T]``.
        kept: how many.
    """

    def __init__(self, encoder: TextEncoder, kept: int = KEPT) -> None:
        self._encoder = lru_cache(kept)(encoder)

    def __call__(self, text: str) -> NDArray[np.float32]:
        """Return the embedding ``[T]``, not to be written to; what the encoder raises goes on, and nothing is kept."""
        return self._encoder(text)


class SentenceEncoder:
    """Embeds texts; may be called from several threads.

    Args:
        engine: runs a graph with the inputs ``input_ids`` and ``attention_mask [1 x L]`` int64 and the output
            ``sentence_embedding [1 x width]``, as :func:`irvf.training.text_encoder.export_text_encoder` writes it.
        tokenizer: the file ``tokenizer.json`` of the model.
        width: T, numbers in an embedding.

    Raises:
        ModelError: another graph, another width, or no tokenizer.
    """

    def __init__(self, engine: Engine, tokenizer: Path, width: int) -> None:
        if set(engine.input_names) != set(_INPUTS) or OUTPUT not in engine.output_names:
            raise ModelError(
                f"a text encoder takes {', '.join(_INPUTS)} and returns {OUTPUT}; the network beside {tokenizer} takes "
                f"{', '.join(engine.input_names)} and returns {', '.join(engine.output_names)}"
            )
        self._engine = engine
        self._tokenizer = _load_tokenizer(tokenizer)
        self.width = width
        found = self._infer("viewing").shape
        if found != (1, width):
            raise ModelError(f"the network beside {tokenizer} returns {list(found)}, its width is said to be {width}")

    def __call__(self, text: str) -> NDArray[np.float32]:
        """Return the embedding ``[T]``, of unit length.

        Args:
            text: of any length and content; what comes after :data:`MAX_TOKENS` tokens is not read.

        Raises:
            ValueError: the text has no tokens, which may be when it is empty and the tokenizer adds none of its own.
            EngineError: the network failed.
        """
        embedding = self._infer(text)[0]
        unit: NDArray[np.float32] = (embedding / np.linalg.norm(embedding)).astype(np.float32, copy=False)
        return unit

    def _infer(self, text: str) -> NDArray[np.float32]:
        numbers = self._tokenizer.encode(text).ids
        if not numbers:
            raise ValueError(f"the text {text!r} has no tokens")
        ids = np.asarray([numbers], np.int64)
        outputs = self._engine.infer({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        embedding: NDArray[np.float32] = outputs[OUTPUT]
        return embedding


def load_vocabulary(tokenizer: Path) -> Callable[[str], bool]:
    """Return what says of a word, in lower case, whether a tokenizer has it as a whole.

    Raises:
        ModelError: the file cannot be read.
    """
    loaded = _load_tokenizer(tokenizer)
    return lambda word: loaded.token_to_id(word) is not None


def _load_tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  (a fusion without instructions runs without)
    except ImportError as error:
        raise ModelError(f"{path} needs tokenizers to be read ({error}); pip install tokenizers") from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises no narrower class
        raise ModelError(f"{path} cannot be read as a tokenizer: {' '.join(str(error).split())[:300]}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer
