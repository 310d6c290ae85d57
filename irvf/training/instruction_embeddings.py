"""Instructions to train on: embeddings of each task's wordings, and of what lies between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from irvf.instruction.encoder import TextEncoder


class Instructions:
    """Draws the embedding of an instruction for a task: a blend of two of its wordings.

    Args:
        wordings: texts by task.
        encode: the text encoder.
    """

    def __init__(self, wordings: Mapping[str, Sequence[str]], encode: TextEncoder) -> None:
        self._embeddings = {task: np.stack([encode(text) for text in texts]) for task, texts in wordings.items()}

    @property
    def width(self) -> int:
        """Return T, numbers in an embedding."""
        return int(next(iter(self._embeddings.values())).shape[1])

    def digest(self) -> str:
        """Return a digest of all embeddings: other wordings or another encoder make another training."""
        return hashlib.sha256(b"".join(rows.tobytes() for rows in self._embeddings.values())).hexdigest()

    def centroids(self) -> dict[str, NDArray[np.float32]]:
        """Return the mean embedding of each task's wordings, of unit length."""
        means = {task: embeddings.mean(axis=0) for task, embeddings in self._embeddings.items()}
        return {task: (mean / np.linalg.norm(mean)).astype(np.float32) for task, mean in means.items()}

    def draw(self, task: str, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return ``[count x T]``, of unit length; blends make the space between the wordings known, too."""
        embeddings = self._embeddings[task]
        first, second = (embeddings[rng.integers(len(embeddings), size=count)] for _ in range(2))
        share = rng.uniform(size=(count, 1)).astype(np.float32)
        blend = share * first + (1 - share) * second
        drawn: NDArray[np.float32] = blend / np.linalg.norm(blend, axis=1, keepdims=True)
        return drawn
