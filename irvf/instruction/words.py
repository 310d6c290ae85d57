"""Words: how a text is taken apart before it is compared with phrases, and mended where it is misspelt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import product

Words = tuple[str, ...]

BREAK = ","
"""Stands between the words for a comma."""
STOP = ";"
"""Stands there for punctuation that ends a sentence."""
COLON = ":"
"""Stands there for a colon."""
MARKS = frozenset({BREAK, STOP, COLON})
GAP = "..."
"""Stands in a phrase for other words of the same clause."""

_ARTICLES = frozenset({"a", "an", "the", "teh", "hte"})
_ELISION = re.compile(
    r"\b([a-z]{1,2})['\N{RIGHT SINGLE QUOTATION MARK}](?=[a-z\N{LATIN SMALL LETTER E WITH ACUTE}]{2})"
)
_APOSTROPHE = re.compile(r"['\N{RIGHT SINGLE QUOTATION MARK}`\N{ACUTE ACCENT}]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")
_BREAKS = re.compile(r",|\u3001|\s-+\s|\u2014")
_STOPS = re.compile(r";|[.!?](?=\s|$)|[\u3002\u00bf\u00a1\n]")
_PLUS = re.compile(r"\+(?:\s?\d+)?(?=\s*(?:[,;]|$))|\+\d+(?=\s)")
_AND = re.compile(r"(?<=\s)[+&](?=\s)")
_MINUS = re.compile(r"(?<![\w-])[-\u2212](?=\d|$)|(?<==)[-\u2212](?=\d)")
_WITHOUT = re.compile(r"\bw/o\b")
_TIGHT_COLON = re.compile(r":(?=\S)|:$")
_IDEOGRAPH = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")
_ALTERNATIVES = re.compile(r"[()]")
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_IRREGULAR = {
    "buses": "bus",
    "knives": "knife",
    "wolves": "wolf",
    "mice": "mouse",
    "geese": "goose",
    "thieves": "thief",
}
_SHORTEST_MENDED = 4
_SHORTEST_KNOWN = 3
_LONG = 7
"""Letters of a word that two errors are mended in."""
_KEPT = 4096


def words_of(text: str) -> Words:
    """Split a text into words as they are compared, with :data:`MARKS` between clauses.

    Lower case, without accents, articles and plural endings; "don't" is "dont", French "l'image" is "l", "image". Each
    ideograph is a word.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = _WITHOUT.sub(" without ", plain)
    plain = _AND.sub(f" {BREAK} ", _MINUS.sub(" minus ", _PLUS.sub(" plus ", plain)))
    plain = _STOPS.sub(f" {STOP} ", _THOUSANDS.sub("", plain))
    plain = _BREAKS.sub(f" {BREAK} ", _IDEOGRAPH.sub(r" \1 ", plain).replace(GAP, " "))
    plain = _APOSTROPHE.sub("", _ELISION.sub(r"\1 ", plain))
    bare = plain if plain.isascii() else _without_accents(plain)
    marks = {mark: f" {mark} " for mark in MARKS}
    spaced = "".join(letter if letter.isalnum() else marks.get(letter, " ") for letter in _TIGHT_COLON.sub(" ", bare))
    return tuple(_singular(word) for word in spaced.split() if word not in _ARTICLES)


def _without_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


def phrases_of(text: str) -> Iterator[tuple[Words, ...]]:
    """Return what a phrase of a grammar stands for, each as the parts between its gaps.

    Alternatives stand in parentheses, ``(|the )(box|boxes)``, and may be parts of words: ``detect(|s|ing)``. Of words
    with ä, ö and ü the spelling with ae, oe and ue is there, too.
    """
    for spelt in _alternatives(text):
        for spelling in dict.fromkeys((spelt, spelt.translate(_UMLAUTS))):
            parts = (tuple(word for word in words_of(part) if word not in MARKS) for part in spelling.split(GAP))
            phrase = tuple(part for part in parts if part)
            if phrase:
                yield phrase


def _alternatives(text: str) -> list[str]:
    """Write out the alternatives of a phrase."""
    pieces = [piece.split("|") for piece in _ALTERNATIVES.split(text)]
    return ["".join(chosen) for chosen in product(*pieces)]


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word.removesuffix("s")


class Speller:
    """Mends typing errors; may be called from several threads.

    Args:
        lexicon: words that errors may stand for, singular.
        is_word: says of a word that it is one, though not of the lexicon; such a word is left as it is.
    """

    def __init__(self, lexicon: Iterable[str], is_word: Callable[[str], bool]) -> None:
        self._is_word = is_word
        known = {word for word in lexicon if len(word) >= _SHORTEST_KNOWN and word.isalpha() and word.isascii()}
        forms = {**{f"{word}s": word for word in known}, **{word: word for word in known}}
        self._forms: dict[int, list[tuple[int, str, str]]] = {}
        for form, word in forms.items():
            if len(form) >= _SHORTEST_MENDED:
                self._forms.setdefault(len(form), []).append((_letters(form), form, word))
        self._found = lru_cache(_KEPT)(self._find)

    def mend(self, word: str) -> str | None:
        """Return the word of the lexicon that was meant; None when it is none, more than one, or no error.

        One wrong, missing, additional or swapped letter is mended in words of four and more letters, two in those of
        seven and more (optimal string alignment distance); the first letter is right or swapped with the second.
        """
        return self._found(word)[1]

    def form(self, word: str) -> str | None:
        """Return what :meth:`mend` does, in the plural where that was meant."""
        return self._found(word)[0]

    def _is_a_word(self, word: str) -> bool:
        return self._is_word(word) or self._is_word(f"{word}s")  # what ended in s came without it

    def _find(self, word: str) -> tuple[str, str] | tuple[None, None]:
        if len(word) < _SHORTEST_MENDED or not word.isalpha() or not word.isascii() or self._is_a_word(word):
            return None, None
        most = 1 if len(word) < _LONG else 2
        letters = _letters(word)
        found: dict[int, list[tuple[str, str]]] = {}
        for length in range(len(word) - most, len(word) + most + 1):
            for others, form, meant in self._forms.get(length, ()):
                if form[0] in word[:2] and (letters ^ others).bit_count() <= 2 * most:
                    found.setdefault(_distance(word, form), []).append((form, meant))
        for distance in range(most + 1):
            close = found.get(distance, [])
            # A word is rarely misspelt at its ends, and letters are left out more often than others put in.
            close = [each for each in close if each[0][0] == word[0]] or close
            close = [each for each in close if each[0][-1] == word[-1]] or close
            close = [each for each in close if _within(word, each[0])] or close
            if close:
                return close[0] if len({meant for _, meant in close}) == 1 else (None, None)
        return None, None


def _within(word: str, form: str) -> bool:
    """Whether a word is another one with letters left out."""
    letters = iter(form)
    return all(letter in letters for letter in word)


def _letters(word: str) -> int:
    """Return the letters that a word has as the bits of a number."""
    bits = 0
    for letter in word:
        bits |= 1 << (ord(letter) & 63)
    return bits


def _distance(first: str, second: str) -> int:
    """Return the optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        before, above, row = row, before, [i]
        for j, other in enumerate(second, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]
