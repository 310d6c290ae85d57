"""What a sentence is about as a whole, and how far the reading of its words is to be believed because of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irvf.instruction.reader import Reading
from irvf.models import ModelError

Vector = NDArray[np.float32]

EFFECT = "effect"
RESET = "reset"
OFF_TOPIC = "off_topic"
LABELS = ("detection", "segmentation", "saliency", "viewing", EFFECT, RESET, OFF_TOPIC)
"""What a sentence can be about: a task, an effect, a reset of the effects, or anything but the image."""
_LIMIT = 6.0


@dataclass(frozen=True)
class Topic:
    """How probable it is that a sentence is about each of :data:`LABELS`.

    Attributes:
        log_probabilities: natural logarithms by label.
    """

    log_probabilities: Mapping[str, float]

    @property
    def best(self) -> str:
        """The most probable label that is about the image."""
        return max(
            (label for label in self.log_probabilities if label != OFF_TOPIC), key=self.log_probabilities.__getitem__
        )

    @property
    def image(self) -> float:
        """Log odds of being about the image at all, -6..6."""
        return _bounded(
            np.logaddexp.reduce([self.log_probabilities[label] for label in LABELS[:-1]])
            - self.log_probabilities[OFF_TOPIC]
        )

    def rank(self, label: str) -> float:
        """Return how much less probable a label is than the best, as a logarithm, -6..0."""
        best = self.log_probabilities[self.best]
        return _bounded(self.log_probabilities.get(label, best) - best)


def _bounded(value: float) -> float:
    return float(min(max(value, -_LIMIT), _LIMIT))


FEATURES = (
    *("image", "rank", "unknown", "complete", "named", "courtesy", "classes", "effects", "effects only", "reset"),
    *("by meaning", "negates", "others", "length"),
)
"""What is weighed; see :func:`features_of`."""


def features_of(reading: Reading, label: str, topic: Topic, *, by_meaning: bool) -> Vector:
    """Return what speaks for and against an understanding of a sentence, ``[14]`` in the order of :data:`FEATURES`.

    Args:
        reading: of its words.
        label: what it is understood as, of :data:`LABELS` or a task of the user's own.
        topic: of the sentence.
        by_meaning: whether the topic suggested the label, not the words.
    """
    asks = not reading.tasks and not by_meaning
    return np.asarray(
        [
            topic.image,
            topic.rank(label),
            1 - reading.confidence,
            reading.complete,
            bool(reading.tasks) and not by_meaning,
            asks and bool(reading.courtesies),
            asks and not reading.courtesies and bool(reading.classes or reading.excluded),
            bool(reading.effects or reading.ended),
            label == EFFECT,
            reading.reset,
            by_meaning,
            reading.negates,
            min(len(reading.other), 3),
            np.log1p(reading.understood + len(reading.unknown)),
        ],
        np.float32,
    )


class Meaning:
    """Tells the topic of sentences and weighs readings; may be called from several threads if the encoder may.

    Args:
        encoder: embeds a text as ``[T]``, of unit length.
        weights: safetensors as :mod:`irvf.training.meaning` writes them: ``topic.weight [7 x T]``, ``topic.bias [7]``,
            ``belief.weight [14]``, ``belief.bias [1]``.

    Raises:
        ModelError: the file is none such, or was made for another encoder.
    """

    def __init__(self, encoder: Callable[[str], Vector], weights: Path) -> None:
        from safetensors.numpy import load_file  # noqa: PLC0415  (a fusion without instructions runs without)

        try:
            stored = load_file(weights)
            self._topic = stored["topic.weight"], stored["topic.bias"]
            self._belief = stored["belief.weight"], float(stored["belief.bias"][0])
        except Exception as error:
            raise ModelError(f"{weights} cannot be read: {' '.join(str(error).split())[:300]}") from error
        width = encoder("viewing").shape[0]
        if self._topic[0].shape != (len(LABELS), width) or self._belief[0].shape != (len(FEATURES),):
            raise ModelError(
                f"{weights} was made for another text encoder or version; make it anew: irvf train meaning"
            )
        self._encoder = encoder

    def topic(self, text: str) -> Topic:
        """Return what a text is about.

        Raises:
            EngineError: the text encoder failed.
        """
        return topic_of(self._topic[0] @ self._encoder(text) + self._topic[1])

    def belief(self, features: Vector) -> float:
        """Return how probable it is that an understanding is right, 0..1."""
        return float(1 / (1 + np.exp(-(self._belief[0] @ features + self._belief[1]))))


def topic_of(logits: Vector) -> Topic:
    """Return the topic that scores ``[7]`` in the order of :data:`LABELS` tell of."""
    normalized = logits - np.logaddexp.reduce(logits)
    return Topic(dict(zip(LABELS, normalized.tolist(), strict=True)))
