"""Reads which effects a clause asks for: wishes ("brighter"), amounts ("less noise") and complaints ("too dark")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from irvf.instruction.grammar import EFFECT_WORDS
from irvf.instruction.mentions import Clause, Mention

_VERB_NEGATIONS = ("dont", "not", "never", "do not")


@dataclass(frozen=True)
class Wish:
    """An effect that a clause asks for.

    Attributes:
        kind: of effect.
        sign: 1 or -1, as of its amount.
        verb: whether a verb asks for it, as "brighten", which may have an object of its own.
        faint: whether it counts only where nothing else is asked for.
        ended: whether it is asked to end, or not to be: "don't make it darker", "stop brightening".
    """

    kind: str
    sign: int
    verb: bool = False
    faint: bool = False
    ended: bool = False


def wishes_of(clause: Clause, direction: int) -> list[Wish]:
    """Return the effects that a clause asks for, each once.

    Args:
        clause: of the text.
        direction: of the clause before, as :func:`direction_of` returns it: "less noise and contrast".
    """
    goes_on = clause.joined and not clause.any("up", "down", "too", "little", "enough", "task", "courtesy")
    inherited = direction if goes_on and (clause.joined in ("and", "but") or bare(clause)) else 0
    found: dict[tuple[str, int, bool], Wish] = {}
    for at, mention in enumerate(clause.mentions):
        # A word such as "outline" asks for its task, unless something is said of how the image looks.
        if mention.any(*EFFECT_WORDS) and ("task" not in mention or clause.any("up", "down", "too", "wish")):
            wish = _wish(clause, at, inherited)
            if wish is not None:
                found.setdefault((wish.kind, wish.sign, wish.ended), wish)
    return list(found.values())


def direction_of(clause: Clause, wishes: list[Wish]) -> int:
    """Return 1 where a clause asks for more of something, -1 for less, 0 where it does not say."""
    said = next((way for at in range(len(clause.mentions)) if (way := _way(clause, at))), 0)
    return said or (1 if wishes and clause.any("more") else 0)


def bare(clause: Clause) -> bool:
    """Whether a clause says nothing but an effect: "and much sharper"."""
    said = (*EFFECT_WORDS, "slight", "strong", "up", "down", "too")
    return all(mention.any(*said) for mention in clause.mentions if mention.meaningful)


def _wish(clause: Clause, at: int, inherited: int) -> Wish | None:
    """Read one word, the surest of its senses first."""
    by_amount = _of_amount(clause, at, inherited)
    readings = (_of_request, _of_flaw, _of_quality, _of_choice)
    return by_amount or next((wish for reading in readings if (wish := reading(clause, at))), None)


def _of_amount(clause: Clause, at: int, inherited: int) -> Wish | None:
    """Read "more contrast", "less noise"."""
    senses = clause.mentions[at].senses
    way = _nearest_way(clause, at) or inherited
    if "amount" in senses and way and "more" not in senses and "less" not in senses:
        return Wish(senses["amount"], way)
    return Wish(senses["nuisance"], -way) if "nuisance" in senses and way else None


def _of_request(clause: Clause, at: int) -> Wish | None:
    """Read "brighter", "brighten", "brightened": asked for, unless complained of or declined."""
    mention = clause.mentions[at]
    kind = next((kind for kind in ("more", "less") if kind in mention), "")
    if not kind:
        return None
    before = clause.mentions[max(0, at - 2) : at]
    sign = 1 if kind == "more" else -1
    comparative = str(mention).endswith("er")
    complained = clause.any("state", "too") and not clause.wishes and not clause.any("up", "down")
    excessive = any("too" in other for other in before) and not comparative
    declined = _is_declined(clause, at)
    reversed_ = excessive or (complained and _participle(mention)) or (comparative and _adjacent_way(clause, at) == -1)
    if reversed_ and not declined:
        sign = -sign
    return Wish(mention.senses[kind], sign, verb=not comparative, ended=declined)


def _is_declined(clause: Clause, at: int) -> bool:
    """Whether the effect at a place is said not to be wanted; what is excepted from it is no word against it."""
    if clause.any("too", "enough", "only"):
        return False
    for place, mention in enumerate(clause.mentions[:at]):
        following = clause.mentions[place + 1]
        declined = mention.any("negation", "stop", "reset") or ("except" in mention and "wish" not in following)
        things = () if str(mention) in _VERB_NEGATIONS else ("nuisance", "amount")
        if declined and not following.any("class", "region", "objects", *things):
            return True
    # After the verb, as in French and German: "ne floute pas", "verdunkle den Himmel nicht".
    after = clause.mentions[at + 1 : at + 2] + clause.mentions[at + 2 :][-1:]
    return any("negation" in mention and "except" not in mention for mention in after)


def _of_flaw(clause: Clause, at: int) -> Wish | None:
    """Read "grainy", "washed out": what helps against it is wanted, unless it is itself."""
    senses = clause.mentions[at].senses
    following = clause.mentions[at + 1 : at + 2]
    verb = at == 0 and bool(following) and following[0].any("region", "class")  # "blurry background"
    wanted = (
        "low" in senses and (clause.wishes or clause.any("except", "rest") or verb) and not clause.any("state", "too")
    )
    opposite = -1 if _adjacent_way(clause, at) == 1 else 1
    if "cure" in senses and not wanted:
        return Wish(senses["cure"], opposite)
    if "overdone" in senses and not wanted:
        return Wish(senses["overdone"], -opposite)
    if "faint" in senses:
        return Wish(senses["faint"], -1 if senses["faint"] == "inclination" else 1, faint=True)
    return None


def _of_quality(clause: Clause, at: int) -> Wish | None:
    """Read an adjective: "too dark" and "it is dark" complain, "make it dark" and "more dark" wish."""
    senses = clause.mentions[at].senses
    kind = senses.get("high") or senses.get("low")
    if kind is None:
        return None
    sign = 1 if "high" in senses else -1
    before = clause.mentions[:at]
    negated = any(mention.any("negation", "denials") for mention in before)
    stated = any("state" in mention and "wish" not in mention for mention in before[-2:])
    way = 0
    following = clause.mentions[at + 1 : at + 2]
    if at == 0 and "cure" in senses and following and following[0].any("region", "class"):
        return Wish(kind, sign)
    if clause.any("except", "rest") and "cure" in senses and not clause.any("state", "too"):
        return Wish(kind, sign)
    if clause.any("enough"):
        way = 1 if negated or clause.any("little") else 0
    elif any("too" in mention for mention in before[-3:]):
        fine = (
            negated
            and clause.any("state")
            and not clause.wishes
            and not clause.any("except")
            and str(before[-1]) == "too"
        )
        way = 0 if fine else -1
    elif _adjacent_way(clause, at):
        way = _adjacent_way(clause, at)
        if negated and not clause.any("state"):
            return Wish(kind, sign * way, ended=True)
    elif clause.wishes and not stated:
        way = -1 if negated else 1
    elif clause.any("state"):
        complains = kind == "illumination" or sign < 0
        way = 1 if negated else -1 if complains else 0
    return Wish(kind, sign * way) if way else None


def _of_choice(clause: Clause, at: int) -> Wish | None:
    """Read "show me thermal", "use the colour camera"."""
    senses = clause.mentions[at].senses
    if clause.any("rather") and "amount" in senses:
        return Wish(senses["amount"], 1)
    if clause.any("rather") and senses.get("nuisance") == "inclination":
        return Wish("inclination", -1)
    return None


def _way(clause: Clause, at: int) -> int:
    """Return which way a word says that an amount goes: 1 up, -1 down, 0 neither."""
    mention = clause.mentions[at]
    if mention.any(*EFFECT_WORDS) and not mention.any("up", "down"):
        return 0
    if "little" in mention:
        return 1
    if mention.any("down", "too"):
        return -1
    if "up" in mention:
        return 1
    follows = clause.mentions[at + 1 : at + 2]
    of_things = mention.any("negation", "stop") and str(mention) not in _VERB_NEGATIONS  # "no noise", not "don't blur"
    return -1 if of_things and follows and follows[0].any("nuisance", "amount") else 0


def _nearest_way(clause: Clause, at: int) -> int:
    """Return which way the amount at a place goes: by the nearest word before it, else after it."""
    places: Iterator[int] = iter((*range(at - 1, -1, -1), *range(at + 1, len(clause.mentions))))
    return next((way for other in places if (way := _way(clause, other))), 0)


def _adjacent_way(clause: Clause, at: int) -> int:
    """Return 1 or -1 where "more" or "less" stands right before, as in "less bright"."""
    for mention in reversed(clause.mentions[max(0, at - 2) : at]):
        if mention.any("up", "down") and "too" not in mention:
            return 1 if "up" in mention else -1
        if mention.meaningful and not mention.any("slight", "strong"):
            break
    return 0


def _participle(mention: Mention) -> bool:
    return str(mention).endswith(("ed", "lit", "ing"))
