"""A causal language model of ``transformers``, from a folder of the user's own; needs torch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from irvf.instruction.interpreter import clean_text
from irvf.instruction.language_model import LanguageModelError

TIME_LIMIT = 5.0
"""Seconds that a user is kept waiting for a language model."""
MAX_NEW_TOKENS = 400
"""Longest answer that is generated."""
_CHUNK = 64
"""Tokens that are read between two looks at the clock."""


class TransformersGenerator:
    """A causal language model of ``transformers``, greedy, for one thread at a time; needs torch.

    Its files must be here: nothing is downloaded, no code of the folder is run, and weights are read as safetensors
    alone, because loading a pickle runs what is written in it. Weights keep the type in which they are stored. What a
    prompt shares with the one before is not computed again.

    Args:
        folder: as ``save_pretrained`` writes it. Where its tokenizer has a chat template, the prompt is a message.
        device: of torch.
        max_new_tokens: longest answer.
        time_limit: seconds in which it must have answered, longer by a token or 64 of the prompt at most.

    Raises:
        LanguageModelError: no folder of a causal language model that ``transformers`` loads.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        max_new_tokens: int = MAX_NEW_TOKENS,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        if not (Path(folder) / "config.json").is_file():  # a name on the hub would be looked up in what was downloaded
            raise LanguageModelError(f"{folder} is no folder of a language model: it has no config.json")
        try:
            self._tokenizer, self._model, missing = _load(str(folder), device)
        except Exception as error:
            reason = clean_text(str(error), 300)
            raise LanguageModelError(f"{folder} cannot be loaded as a causal language model: {reason}") from error
        if missing:  # transformers would leave them random
            raise LanguageModelError(f"{folder}: its weights lack {len(missing)} of the network, as {min(missing)}")
        self._device = device
        self._max_new_tokens = max_new_tokens
        self._time_limit = time_limit
        self._cache: Any = None
        self._seen: list[int] = []  # tokens that the cache holds

    def __call__(self, prompt: str) -> str:
        """Return how the model continues a prompt, to the end of the first JSON object or of what it has to say.

        Raises:
            LanguageModelError: the time is over, or the prompt is too long for the model.
        """
        import torch  # noqa: PLC0415  (seconds to import)

        deadline = time.monotonic() + self._time_limit
        tokens = self._tokens(prompt)
        self._read(tokens[:-1], deadline)

        def written(ids: Any) -> str:
            return str(self._tokenizer.decode(ids[0, len(tokens) :].tolist(), skip_special_tokens=True))

        def is_done(ids: Any, _scores: Any, **_: Any) -> Any:
            done = time.monotonic() > deadline or _is_complete(written(ids))
            return torch.full((1,), done, dtype=torch.bool, device=ids.device)

        cache, self._cache = self._cache, None  # should it fail in between, nothing half done is left
        ids = torch.tensor([tokens], device=self._device)
        with torch.inference_mode():
            ids = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), past_key_values=cache, stopping_criteria=[is_done]
            )
        self._seen = ids[0, : cache.get_seq_length()].tolist()
        self._cache = cache
        text = written(ids)
        if time.monotonic() > deadline and not _is_complete(text):
            raise LanguageModelError(too_late(self._time_limit))
        return text

    def read_ahead(self, prompt: str) -> None:
        """Read a prompt, however long it takes, so that one that begins alike is answered sooner.

        Raises:
            LanguageModelError: the prompt is too long for the model.
        """
        self._read(self._tokens(prompt)[:-1], math.inf)

    def _tokens(self, prompt: str) -> list[int]:
        if self._tokenizer.chat_template:
            # A model that thinks aloud first would do so until the time is over.
            chat = [{"role": "user", "content": prompt}]
            options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
            prompt = self._tokenizer.apply_chat_template(chat, **options)
        tokens: list[int] = self._tokenizer(prompt, add_special_tokens=not self._tokenizer.chat_template)["input_ids"]
        most = getattr(self._model.config, "max_position_embeddings", None) or math.inf
        if len(tokens) + self._max_new_tokens > most:
            raise LanguageModelError(
                f"the prompt has {len(tokens)} tokens and the answer up to {self._max_new_tokens}; it reads only {most}"
            )
        self._model.generation_config.max_new_tokens = self._max_new_tokens
        return tokens

    def _read(self, tokens: list[int], deadline: float) -> None:
        """Bring the cache to hold these tokens; what was read when the time is over is kept for the next."""
        import torch  # noqa: PLC0415
        from transformers import DynamicCache  # noqa: PLC0415

        shared = next((at for at, pair in enumerate(zip(self._seen, tokens, strict=False)) if pair[0] != pair[1]), None)
        shared = min(len(self._seen), len(tokens)) if shared is None else shared
        cache, self._cache = self._cache, None
        try:
            if cache is not None and shared < len(self._seen):
                cache.crop(shared - len(self._seen))
        except (RuntimeError, ValueError):  # a cache that forgets, as of a sliding window, cannot go back
            cache = None
        if cache is None:
            cache, shared = DynamicCache(config=self._model.config), 0
        for start in range(shared, len(tokens), _CHUNK):
            if time.monotonic() > deadline:
                self._cache, self._seen = cache, tokens[:start]
                raise LanguageModelError(too_late(self._time_limit))
            part = torch.tensor([tokens[start : start + _CHUNK]], device=self._device)
            with torch.inference_mode():
                self._model.base_model(input_ids=part, past_key_values=cache, use_cache=True)
        self._cache, self._seen = cache, tokens


def _load(folder: str, device: str) -> tuple[Any, Any, Collection[str]]:
    """Return the tokenizer, the model and the names of weights that the folder lacks."""
    import transformers  # noqa: PLC0415  (seconds to import)

    library: Any = transformers
    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = library.AutoTokenizer.from_pretrained(folder, **options)
    model, report = library.AutoModelForCausalLM.from_pretrained(
        folder, **options, use_safetensors=True, dtype="auto", output_loading_info=True
    )
    end = model.generation_config.eos_token_id or tokenizer.eos_token_id
    first = end[0] if isinstance(end, list) else end
    # Not the folder's own: it may sample or penalise repetition, which JSON is full of.
    model.generation_config = library.GenerationConfig(
        do_sample=False, eos_token_id=end, pad_token_id=tokenizer.pad_token_id or first
    )
    return tokenizer, model.eval().requires_grad_(requires_grad=False).to(device), report["missing_keys"]


def _is_complete(text: str) -> bool:
    """Whether a JSON object has ended in a text."""
    try:
        json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):
        return False
    return True


def too_late(time_limit: float) -> str:
    """Say that a time limit is over."""
    return f"it took longer than {time_limit:g} s"
