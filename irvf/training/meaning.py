"""Learns what sentences are about, and how far the reading of their words is to be believed.

Two linear models: the topic from the embedding of a sentence (seven labels), and the belief from that topic and what
the words say (:data:`irvf.instruction.meaning.FEATURES`). The belief is fitted on topics of models that have not seen
the sentence (five folds), since those of a model that has seen it are surer than they will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from irvf.instruction.interpreter import BELIEF, Interpreter
from irvf.instruction.meaning import LABELS, OFF_TOPIC, Topic, features_of, topic_of
from irvf.instruction.words import words_of
from irvf.training.wordings import load_wordings

FOLDS = 5
_TOPIC_DECAY = 1e-4
_BELIEF_DECAY = 1e-3
_SHARPNESS = 10.0
"""Embeddings of unit length are scaled by this, so that the weights that are learnt are of the order of one."""
_STEPS = 300


def load_examples(path: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Read sentences by what they are about.

    Args:
        path: YAML mapping of :data:`irvf.instruction.meaning.LABELS` to lists of texts; None for the package's own and
            the wordings that the fusion was trained with.

    Raises:
        OSError: the file cannot be opened.
        ValueError: another form, or a label that is not known.
    """
    own = path is None
    path = path or Path(__file__).with_name("examples.yaml")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != set(LABELS):
        raise ValueError(f"{path} must be a mapping of {', '.join(LABELS)} to lists of texts")
    for label, texts in content.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"{path}: {label} must be a list of texts")
    wordings = load_wordings() if own else {}
    return {
        label: (*texts, *(wordings[label].training if label in wordings else ())) for label, texts in content.items()
    }


@dataclass(frozen=True)
class Learnt:
    """Weights, and how well they do on sentences that they have not seen.

    Attributes:
        tensors: as :class:`irvf.instruction.meaning.Meaning` reads them.
        topics_right: share of sentences whose topic is found, 0..1.
        understood: share of sentences about the image that are followed as they should be, 0..1.
        wrong: share of those that are followed otherwise.
        off_topic_followed: share of the others that are followed.
    """

    tensors: Mapping[str, NDArray[np.float32]]
    topics_right: float
    understood: float
    wrong: float
    off_topic_followed: float


def learn(
    examples: Mapping[str, Sequence[str]],
    encoder: Callable[[str], NDArray[np.float32]],
    interpreter: Interpreter,
    seed: int = 0,
) -> Learnt:
    """Fit both models.

    Args:
        examples: texts by label.
        encoder: embeds a text as ``[T]``, of unit length.
        interpreter: reads the words; its own meaning is not used.
        seed: of the folds.
    """
    texts = [(label, text) for label, each in examples.items() for text in each]
    labels = torch.tensor([LABELS.index(label) for label, _ in texts])
    embeddings = torch.tensor(np.stack([encoder(interpreter.mended(text)) for _, text in texts])) * _SHARPNESS
    folds = torch.randint(0, FOLDS, (len(texts),), generator=torch.Generator().manual_seed(seed))
    unseen = torch.zeros(len(texts), len(LABELS))
    for fold in range(FOLDS):
        model = _fit(embeddings[folds != fold], labels[folds != fold], len(LABELS), _TOPIC_DECAY)
        unseen[folds == fold] = model(embeddings[folds == fold]).detach()
    topics = [topic_of(row) for row in unseen.numpy()]
    cases = [
        case
        for number, ((label, text), topic) in enumerate(zip(texts, topics, strict=True))
        for case in _cases(number, label, text, topic, interpreter)
    ]
    features = torch.tensor(np.stack([case.features for case in cases]))
    right = torch.tensor([case.right for case in cases]).long()
    case_folds = folds[[case.number for case in cases]]
    beliefs = torch.zeros(len(cases))
    for fold in range(FOLDS):
        model = _fit(features[case_folds != fold], right[case_folds != fold], 2, _BELIEF_DECAY)
        beliefs[case_folds == fold] = model(features[case_folds == fold]).detach().softmax(1)[:, 1]
    topic_model = _fit(embeddings, labels, len(LABELS), _TOPIC_DECAY)
    belief_model = _fit(features, right, 2, _BELIEF_DECAY)
    tensors = {
        "topic.weight": topic_model.weight.detach().numpy() * _SHARPNESS,
        "topic.bias": topic_model.bias.detach().numpy(),
        "belief.weight": (belief_model.weight[1] - belief_model.weight[0]).detach().numpy(),
        "belief.bias": (belief_model.bias[1:] - belief_model.bias[:1]).detach().numpy(),
    }
    followed: dict[int, tuple[float, bool]] = {}
    for case, belief in zip(cases, beliefs.tolist(), strict=True):
        if belief > max(BELIEF, followed.get(case.number, (0.0, False))[0]):
            followed[case.number] = belief, case.right
    about = [number for number, (label, _) in enumerate(texts) if label != OFF_TOPIC]
    other = [number for number, (label, _) in enumerate(texts) if label == OFF_TOPIC]
    return Learnt(
        tensors,
        float((unseen.argmax(1) == labels).float().mean()),
        float(np.mean([followed.get(number, (0, False))[1] for number in about])),
        float(np.mean([number in followed and not followed[number][1] for number in about])),
        float(np.mean([number in followed for number in other])),
    )


def save(learnt: Learnt, path: Path) -> None:
    """Write the weights as safetensors."""
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in learnt.tensors.items()}, path)


@dataclass(frozen=True)
class _Case:
    """A way to understand a text, and whether it is right."""

    number: int
    features: NDArray[np.float32]
    right: bool


def _cases(number: int, label: str, text: str, topic: Topic, interpreter: Interpreter) -> list[_Case]:
    reading = interpreter.read(words_of(text))
    said = interpreter.said(text, reading)
    cases = []
    for each in interpreter.candidates(text, reading, said, topic):
        features = features_of(reading, each.label, topic, by_meaning=each is not said)
        right = label in (each.label, "effect" if each.effects else label == "", "reset" if each.reset else "")
        cases.append(_Case(number, features, bool(right)))
    return cases


def _fit(inputs: Tensor, targets: Tensor, classes: int, decay: float) -> nn.Linear:
    model = nn.Linear(inputs.shape[1], classes)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(model(inputs), targets) + decay / 2 * model.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return model
