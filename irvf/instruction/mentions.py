"""Mentions: the pieces of a text that are known, clause by clause, with all that each of them can mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from irvf.instruction.grammar import Language, Senses
from irvf.instruction.words import MARKS, Words

_LONGEST_GAP = 8
_MOST_MENDED = 12
"""Words of a text that are looked at for typing errors: bounds the time that a flood of rubbish takes."""
_SAYING_NOTHING = frozenset({"fillers", "wish", "state", "whole", "joins"})


@dataclass(frozen=True)
class Mention:
    """A piece of a clause.

    Attributes:
        words: of the text; those of a phrase with a gap up to the gap.
        senses: what it can mean; empty when it is not known.
        position: of its first word in the text.
    """

    words: Words
    senses: Senses
    position: int

    def __contains__(self, kind: str) -> bool:
        return kind in self.senses

    def any(self, *kinds: str) -> bool:
        """Whether it can mean one of these kinds of thing."""
        return any(kind in self.senses for kind in kinds)

    @property
    def unknown(self) -> bool:
        """Whether it is a word that is in no phrase."""
        return not self.senses

    @property
    def meaningful(self) -> bool:
        """Whether it says more than a filler."""
        return bool(set(self.senses) - _SAYING_NOTHING)

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass
class Clause:
    """Mentions between two breaks.

    Attributes:
        mentions: in the order of the text.
        joined: how it follows the one before: ``and`` or ``but`` after a joining word, a mark of
            :data:`irvf.instruction.words.MARKS` after punctuation, empty at the start.
        number: of the clause in the text.
        wished: whether the verb of the clause before holds for it, too: "make the sky dark and the people bright".
    """

    mentions: list[Mention] = field(default_factory=list)
    joined: str = ""
    number: int = 0
    wished: bool = False

    def any(self, *kinds: str) -> bool:
        """Whether a mention can mean one of these kinds of thing."""
        return any(mention.any(*kinds) for mention in self.mentions)

    @property
    def wishes(self) -> bool:
        """Whether it says how something should be."""
        return self.wished or self.any("wish")

    def of(self, *kinds: str) -> list[Mention]:
        """Return the mentions that can."""
        return [mention for mention in self.mentions if mention.any(*kinds)]


def clauses_of(words: Sequence[str], language: Language, mend: Callable[[str], str | None]) -> list[Clause]:
    """Find what is known in a text, the longest phrases first.

    Args:
        words: of :func:`irvf.instruction.words.words_of`.
        language: whose phrases are looked for.
        mend: returns what a word that is in no phrase was meant to be; None where it cannot tell.
    """
    mended = list(_mended(words, language.lexicon, mend))
    clauses = [Clause()]
    for mention in _mentions(mended, language):
        if mention.words[0] in MARKS:
            clauses.append(Clause(joined=mention.words[0]))
        elif "joins" in mention and not mention.any("except", "only"):
            if clauses[-1].mentions:
                clauses.append(Clause())
            if len(clauses) > 1:
                clauses[-1].joined = "but" if "contrast" in mention else "and"
        else:
            clauses[-1].mentions.append(mention)
    spoken = [clause for clause in clauses if clause.mentions]
    for number, clause in enumerate(spoken):
        clause.number = number
    return spoken


def _mended(words: Sequence[str], lexicon: Set[str], mend: Callable[[str], str | None]) -> Iterator[str]:
    tried = 0
    for word in words:
        if word in MARKS or word in lexicon or tried >= _MOST_MENDED:
            yield word
            continue
        tried += 1
        meant = mend(word)
        yield from (meant,) if meant else _split(word, lexicon) or (word,)


def _split(word: str, lexicon: Set[str]) -> tuple[str, ...] | None:
    """Return the two words that were typed as one; None where it is none such."""
    if not word.isascii():
        return None
    if word.startswith("the") and word[3:] in lexicon and len(word) > 6:
        return (word[3:],)
    halves = ((word[:cut], word[cut:]) for cut in range(3, len(word) - 2))
    return next((pair for pair in halves if pair[0] in lexicon and pair[1] in lexicon), None)


def _mentions(words: Sequence[str], language: Language) -> Iterator[Mention]:
    used: set[int] = set()
    tails: dict[int, str] = {}
    start = 0
    while start < len(words):
        if start in used:
            if start in tails:
                yield Mention((words[start],), {"tail": tails[start]}, start)
            start += 1
            continue
        length, senses = _plain(words, start, language, used)
        gapped = _gapped(words, start, language, used)
        if gapped is not None and gapped[0] >= max(length, 2) + ("fillers" not in senses and length > 1):
            _, parts, kind, name = gapped
            first, *others = parts
            used.update(position for part in others for position in part)
            if others:
                tails[others[-1][0]] = kind
            senses = {**senses, kind: name} if len(first) == length else {kind: name}
            yield Mention(tuple(words[position] for position in first), senses, start)
            start += len(first)
            continue
        yield Mention(tuple(words[start : start + length]), senses, start)
        start += length


def _plain(words: Sequence[str], start: int, language: Language, used: set[int]) -> tuple[int, Senses]:
    for length in range(min(language.longest, len(words) - start), 0, -1):
        phrase = tuple(words[start : start + length])
        if phrase in language.phrases and not used.intersection(range(start, start + length)):
            return length, language.phrases[phrase]
    return 1, {}


def _gapped(
    words: Sequence[str], start: int, language: Language, used: set[int]
) -> tuple[int, list[range], str, str] | None:
    """Return the longest phrase with gaps that starts here: its length, where its parts are, its sense."""
    best: tuple[int, list[range], str, str] | None = None
    for parts, kind, name in language.gapped.get(words[start], ()):
        found: list[range] = []
        position = start
        for part in parts:
            most = position if not found else min(position + _LONGEST_GAP, len(words) - len(part))
            at = next((at for at in range(position, most + 1) if tuple(words[at : at + len(part)]) == part), None)
            if at is None or MARKS.intersection(words[position:at]) or used.intersection(range(at, at + len(part))):
                break
            found.append(range(at, at + len(part)))
            position = at + len(part)
        else:
            length = sum(map(len, parts))
            if best is None or length > best[0]:
                best = length, found, kind, name
    return best
