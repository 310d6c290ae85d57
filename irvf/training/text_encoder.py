"""Exports text encoders of ``transformers`` to run without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from irvf.engines.factory import create_engine
from irvf.instruction.encoder import MAX_TOKENS, OUTPUT, SentenceEncoder
from irvf.instruction.transformers_encoder import TransformersEncoder
from irvf.training.export import ExportError, export_network, write_config
from irvf.training.weight_quantization import quantize_weights
from irvf.training.wordings import load_wordings

INT8_COSINE = 0.99
"""Least cosine between the embeddings of the int8 graph and torch's."""

_LARGEST_FILE = 2**31 - 2**24
"""Bytes: protobuf's limit, with room for the graph."""


def export_text_encoder(source: str | Path, folder: Path, *, int8: bool = True, licence: str = "unknown") -> float:
    """Write a text encoder as a model folder (see :class:`irvf.models.Model`).

    The graph takes one text of any length as ``input_ids`` and ``attention_mask [1 x L]`` and returns
    ``sentence_embedding [1 x T]``, pooled and of unit length.

    Args:
        source: as of :class:`TransformersEncoder`.
        folder: gets ``encoder.onnx``, ``tokenizer.json`` and ``config.yaml``.
        int8: whether weights are stored in 8 bit, a scale for each channel: a quarter of the size.
        licence: SPDX name of the weights' licence.

    Returns:
        The least cosine between an embedding of the written model and torch's, over all wordings of the training.

    Raises:
        ExportError: onnxruntime's result is not torch's.
        ValueError: no text model, its tokenizer has no fast form, or it is too large for one file (2 GB in fp32).
    """
    encoder = TransformersEncoder(source)
    encoder.network.float()
    tokenizer = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        raise ValueError(f"{source}: its tokenizer cannot be written as tokenizer.json; use a model with a fast one")
    parameters, most = sum(value.numel() for value in encoder.network.parameters()), _LARGEST_FILE // 4
    if parameters > most:
        raise ValueError(f"{source} has {parameters:,} parameters; an ONNX file holds {most:,}: take a smaller model")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    _write_graph(encoder, folder / "encoder.onnx", int8=int8)
    least = _least_cosine(encoder, folder, int8=int8)
    files = {"onnx": "encoder.onnx", "tokenizer": "tokenizer.json"}
    write_config(folder, {"kind": "text_encoder", **files, "licence": licence, "width": encoder.width})
    return least


def _write_graph(encoder: TransformersEncoder, path: Path, *, int8: bool) -> None:
    cases = (encoder.tokens([text]) for text in ("detect people, bicycles and cars", "a natural looking picture"))
    inputs, other = ({"input_ids": ids, "attention_mask": mask} for ids, mask in cases)
    length = torch.export.Dim("length", min=2, max=MAX_TOKENS)
    exact = path.with_suffix(".fp32") if int8 else path
    export_network(encoder.network, inputs, other, OUTPUT, exact, dynamic_shapes=[{1: length}] * 2)
    if not int8:
        return
    try:
        quantize_weights(exact, path)
    finally:
        exact.unlink(missing_ok=True)


def _least_cosine(encoder: TransformersEncoder, folder: Path, *, int8: bool) -> float:
    """Compare what was written with torch, text by text."""
    deployed = SentenceEncoder(
        create_engine("onnxruntime", folder / "encoder.onnx", threads=1), folder / "tokenizer.json", encoder.width
    )
    texts = [text for each in load_wordings().values() for text in (*each.training, *each.held_back)]
    cosines = np.sum(np.stack([deployed(text) for text in texts]) * encoder(texts), axis=1)
    least = float(cosines.min())
    wanted = INT8_COSINE if int8 else 1 - 1e-6
    if not least >= wanted:  # NaN is an error, too
        worst = texts[int(cosines.argmin())]
        raise ExportError(f"the exported encoder differs from torch: cosine {least:.4f} at {worst!r}, {wanted} wanted")
    return least
