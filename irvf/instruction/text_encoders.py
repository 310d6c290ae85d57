"""Which text encoder a configuration names: a model folder, or what ``transformers`` loads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from irvf.engines.factory import create_engine
from irvf.instruction.encoder import SentenceEncoder, TextEncoder
from irvf.models import ModelError, load_model


def load_text_encoder(name: str, engine: str = "auto", threads: int = 1) -> TextEncoder:
    """Load the text encoder that a configuration names.

    Args:
        name: of a model folder of kind ``text_encoder``, a path to one, or a path to a folder that ``transformers``
            loads (any encoder or causal language model, as the paper's LLaMA): that one needs torch.
        engine: runs the model folder's network; ``auto`` does in place of TensorRT, which would build for every length
            of a text.
        threads: of the engine.

    Raises:
        ModelError: no such model, or a malformed one.
        EngineError: the engine cannot load it.
        ValueError: ``transformers`` is not installed or cannot load the folder.
    """
    if os.sep in name and (Path(name) / "config.json").is_file():
        try:
            from irvf.instruction.transformers_encoder import TransformersEncoder  # noqa: PLC0415  (seconds to import)
        except ImportError as error:
            raise ValueError(f"the text encoder {name} needs torch and transformers ({error}); install them") from error
        encoder = TransformersEncoder(name)
        return lambda text: np.asarray(encoder([text])[0], np.float32)
    model = load_model(name, "text_encoder")
    if model.tokenizer is None:
        raise ModelError(f"model {model.path} names no tokenizer in its config.yaml")
    engine = "auto" if engine in ("tensorrt", "torch") else engine  # which make no text encoder here
    return SentenceEncoder(create_engine(engine, model.network, threads), model.tokenizer, model.width)
