"""Text encoders of ``transformers``, where a configuration names one; they need torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from irvf.instruction.encoder import MAX_TOKENS

_BATCH = 32


class MeanPooling(nn.Module):
    """Mean of a text model's last hidden states over the tokens, as in the IRVF paper.

    Args:
        encoder: returns ``last_hidden_state [N x L x T]``.
        normalize: whether the mean is scaled to unit length.
    """

    def __init__(self, encoder: nn.Module, *, normalize: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalize = normalize

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``[N x T]``.

        Args:
            input_ids: ``[N x L]`` int64, token numbers.
            attention_mask: ``[N x L]`` int64, 1 at tokens and 0 at padding.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return nn.functional.normalize(mean, dim=-1) if self.normalize else mean


class TransformersEncoder:
    """Any encoder or causal language model of ``transformers`` as a text encoder.

    Of a model with encoder and decoder, the encoder is taken. Of a text, the first
    :data:`irvf.instruction.encoder.MAX_TOKENS` tokens are read, fewer where the model takes fewer.
    Weights keep the type in which they are stored, and are read as safetensors alone: a pickle would run what is in it.

    Args:
        name: a folder as ``save_pretrained`` writes it, or with ``download`` a name on the Hugging Face hub.
        device: of torch.
        normalize: whether embeddings have unit length, as sentence encoders are trained, and as an exported encoder
            returns them whatever it was. The paper's, of LLaMA, are as the mean falls: False.
        download: whether files may be fetched that are not here.

    Attributes:
        width: T, numbers in an embedding.

    Raises:
        ValueError: no folder of a text model that ``transformers`` loads.
    """

    def __init__(
        self, name: str | Path, device: str = "cpu", *, normalize: bool = True, download: bool = False
    ) -> None:
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  (seconds to import)

        try:
            options: dict[str, Any] = {"local_files_only": not download, "trust_remote_code": False}
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(name), **options)
            model: Any = AutoModel.from_pretrained(
                str(name), **options, use_safetensors=True, dtype="auto", attn_implementation="eager"
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{name} cannot be loaded as a text model of transformers: {reason}") from error
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        # A cache of keys and values serves text that is written on, which this is not.
        model.config.use_cache = False
        self.network = MeanPooling(model, normalize=normalize).eval().requires_grad_(requires_grad=False).to(device)
        self.width = int(model.config.hidden_size)
        self._device = device
        limits = (MAX_TOKENS, self.tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
        self._most_tokens = min(limit for limit in limits if limit)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings ``[N x T]``, a row for each text.

        Raises:
            ValueError: a text has no tokens.
        """
        rows = [self._embed(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return np.concatenate(rows) if rows else np.zeros((0, self.width), np.float32)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, ``[N x L]`` int64, L the length of the longest text.

        Raises:
            ValueError: a text has no tokens.
        """
        entries = self.tokenizer(list(texts), truncation=True, max_length=self._most_tokens)["input_ids"]
        empty = [text for text, entry in zip(texts, entries, strict=True) if not entry]
        if empty:
            raise ValueError(f"the text {empty[0]!r} has no tokens")
        # Filled up on the right, whatever the tokenizer would do: there no token of a causal model sees the padding.
        ids = torch.full((len(texts), max(map(len, entries))), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, entry in enumerate(entries):
            ids[row, : len(entry)] = torch.tensor(entry)
            mask[row, : len(entry)] = 1
        return ids, mask

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        ids, mask = self.tokens(texts)
        with torch.inference_mode():
            embeddings: NDArray[np.float32] = self.network(ids.to(self._device), mask.to(self._device)).cpu().numpy()
        return embeddings
