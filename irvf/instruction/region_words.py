"""Reads where effects are asked for: regions that are named, pointed back to, taken out, or taken from a neighbour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from irvf.instruction.effect_words import Wish, bare, direction_of, wishes_of
from irvf.instruction.grammar import EFFECT_WORDS
from irvf.instruction.instruction import AMOUNT, SLIGHT, STRONG, Effect, Region
from irvf.instruction.mentions import Clause, Mention
from irvf.instruction.task_words import searches
from irvf.instruction.words import BREAK, COLON

_TASK_WORDS = ("task", "courtesy", "only", "except", "negation", "stop", "instead", "reset")
_SINGULAR = frozenset({"person", "man", "woman", "child", "car", "bike", "bicycle", "cyclist", "vehicle", "kid", "guy"})


class ContradictionError(ValueError):
    """Effects that exclude each other are asked for."""


def all_but(regions: Sequence[Region]) -> Region:
    """Return everything but some regions of objects."""
    names = [region.name.removeprefix("all but ") for region in regions]
    objects = tuple(dict.fromkeys(name for region in regions for name in region.objects or ()))
    return Region(f"all but {' and '.join(dict.fromkeys(names))}", objects=objects, inverted=True)


@dataclass
class _Placed:
    """The effects of a clause and where; ``regions`` is None where that is not said, empty for the whole image."""

    wishes: list[Wish]
    amount: float
    regions: list[Region] | None
    clause: Clause


@dataclass
class EffectReader:
    """Takes a text clause by clause, and remembers what was named.

    Args:
        regions: by name.
        context: regions that a pronoun points to where nothing is named: those of the instruction in force.

    Attributes:
        dangling: a pronoun that points to nothing; empty where there is none.
        unfound: an object whose look is to change and that the models do not know; likewise.
        ended: effects that are not to be, known when :meth:`effects` has returned.
        took_names: whether names that stood alone were taken for regions: "cars and people: brighter".
    """

    regions: Mapping[str, Region]
    context: Sequence[Region] = ()
    dangling: str = ""
    unfound: str = ""
    ended: list[Effect] = field(default_factory=list)
    took_names: bool = False
    _placed: list[_Placed] = field(default_factory=list)
    _named: list[Mention] = field(default_factory=list)
    _named_in_task: bool = False
    _alone: list[Mention] = field(default_factory=list)
    _group: list[Mention] = field(default_factory=list)
    _left: Region | None = None
    _direction: int = 0
    _wished: bool = False

    def take(self, clause: Clause) -> bool:
        """Take the next clause; return whether it speaks of effects, and of nothing to be found."""
        complains = clause.any("state", "too", "negation")
        clause.wished = self._wished and clause.joined in ("and", "but", BREAK) and not complains
        self._wished = clause.wishes and not complains
        wishes = wishes_of(clause, self._direction) or self._same_again(clause)
        self._direction = direction_of(clause, wishes)
        ended = any(wish.ended for wish in wishes)
        taken = bool(wishes) and (ended or not clause.any("reset") or any(wish.verb for wish in wishes))
        if taken:
            self._placed.append(_Placed(wishes, self._amount(clause), self._where(clause), clause))
        elif self._resets_kinds(clause):
            taken = True
        elif self._adds_regions(clause):
            before = self._placed[-1].regions or []
            added = self._regions_of(clause)
            excepted = bool(before) and all(region.inverted and region.objects is not None for region in before)
            self._placed[-1].regions = [all_but([*before, *added])] if excepted else [*before, *added]
            self._placed[-1].clause = clause
            taken = True
        elif self._contrasts(clause):
            taken = True
        elif clause.any("except", "leave") and clause.any("region", "class") and not clause.any("task", "courtesy"):
            self._left = self._region(clause.of("region", "class")[0])
        return taken

    def remember(self, clause: Clause) -> None:
        """Keep what a clause names, for what points back to it."""
        named = clause.of("class", "region")
        alone = named and not any(
            mention.meaningful and not mention.any("class", "region") for mention in clause.mentions
        )
        goes_on = clause.joined in ("and", BREAK)
        sought = goes_on and self._named_in_task  # "boxes on cars and people"
        self._alone = [*self._alone, *named] if alone and not sought else []
        if named:
            self._group = [*self._group, *named] if goes_on and self._group else named
            self._named += named
            self._named_in_task = searches(clause) or (bool(alone) and sought)

    def named_classes(self) -> list[str]:
        """Return the classes that were named so far."""
        return [mention.senses["class"] for mention in self._named if "class" in mention]

    def belongs_to_effects(self, clause: Clause) -> bool:
        """Whether the classes of a clause are regions of the effects before it."""
        names = {region.name for region in self._placed[-1].regions or ()} if self._placed else set()
        return (
            bool(clause.joined)
            and not clause.any("task", "courtesy", "only")
            and any(mention.senses.get("class") in names for mention in clause.of("class"))
        )

    @staticmethod
    def _amount(clause: Clause) -> float:
        return STRONG if clause.any("strong") else SLIGHT if clause.any("slight") else AMOUNT

    def _same_again(self, clause: Clause) -> list[Wish]:
        """Read "bring up the light at the bottom and take it down at the top"."""
        direction = direction_of(clause, [])
        if not (
            self._placed and clause.joined and direction and clause.any("things") and clause.any("region", "class")
        ):
            return []
        return [Wish(wish.kind, direction) for wish in self._placed[-1].wishes]

    def _where(self, clause: Clause) -> list[Region] | None:
        regions = self._regions_of(clause)
        if regions:
            listed = clause.joined in ("and", BREAK) and self._alone and not clause.any("persons", "things", "rest")
            if not listed or any(region.inverted for region in regions):
                return regions
            self.took_names = True  # "the people and the cars brighter"
            return [*filter(None, map(self._region, self._alone)), *regions]
        strange = [mention for mention in clause.of("unknown_objects") if not mention.any("class", *EFFECT_WORDS)]
        if strange and not searches(clause):
            self.unfound = self.unfound or str(strange[0])
        if clause.joined and self._alone and (clause.any("group") or clause.joined == COLON):
            self.took_names = True
            return [region for region in map(self._region, self._alone) if region is not None]
        if self._left is not None and clause.joined:
            return [self._left.complement()]
        return [] if clause.any("whole", "things") else None

    def _adds_regions(self, clause: Clause) -> bool:
        """Whether a clause only adds regions to the effects before it: "brighten the people and the cars"."""
        if not self._placed or not clause.joined or clause.any(*_TASK_WORDS, *EFFECT_WORDS):
            return False
        before = self._placed[-1]
        wanted = bool(before.regions) or (before.regions is None and clause.joined in (BREAK, COLON))
        return wanted and self._follows(clause) and bool(self._regions_of(clause))

    def _follows(self, clause: Clause) -> bool:
        return self._placed[-1].clause.number + 1 == clause.number

    def _contrasts(self, clause: Clause) -> bool:
        """Whether a clause only says where an effect is not meant: "denoise the background, not the objects"."""
        return (
            bool(self._placed)
            and self._follows(clause)
            and clause.any("negation")
            and clause.any("region", "class", "objects")
            and not clause.any("task", "courtesy", "reset")
        )

    def _regions_of(self, clause: Clause) -> list[Region]:
        """Return the regions that a clause names, pronouns and exceptions resolved."""
        mentions: Sequence[Mention] = clause.mentions
        if searches(clause):
            starts = [at for at, mention in enumerate(mentions) if mention.any(*EFFECT_WORDS)]
            mentions = mentions[starts[0] :] if starts else ()
        found, inverted = self._named_regions(mentions)
        if not found:
            pointed = self._pointed_to(clause)
            if pointed and (inverted or clause.any("rest")):
                found = [all_but(pointed) if all(region.objects for region in pointed) else pointed[-1].complement()]
            else:
                found = pointed
        return list(dict.fromkeys(found))

    def _named_regions(self, mentions: Sequence[Mention]) -> tuple[list[Region], bool]:
        found: list[Region] = []
        inverted = False
        for at, mention in enumerate(mentions):
            region = self._region(mention)
            if "instead" in mention and "negation" not in mention:
                break  # "brighter than the rest"
            asked = any(before.any("more", "less") for before in mentions[:at])  # "n'assombris pas le fond" declines it
            negated = "negation" in mention and not asked and self._stands_before_region(mentions[at + 1 :])
            if "except" in mention or negated:
                inverted = True
            elif region is not None:
                found.append(region.complement() if inverted else region)
        excepted = [region for region in found if region.inverted]
        if len(excepted) < len(found):  # "the people, but not the cars"
            found = [region for region in found if not region.inverted or region.name == "background"]
        elif len(excepted) > 1 and all(region.objects for region in excepted):
            found = [all_but(excepted)]
        objects = [region for region in found if region.objects is not None]
        mixed = objects and len(objects) < len(found)  # "the people on the left": the place says which people
        return (objects if mixed else found), inverted

    def _stands_before_region(self, following: Sequence[Mention]) -> bool:
        first = next((mention for mention in following if mention.meaningful or "wish" in mention), None)
        return first is not None and self._region(first) is not None

    def _pointed_to(self, clause: Clause) -> list[Region]:
        """Return what a pronoun or "the rest" points back to, in the text or in the instruction in force."""
        group = [region for region in map(self._region, self._group) if region is not None]
        if clause.any("rest"):
            named = [self._left] if self._left else group or list(self.context)
        elif clause.any("places"):
            named = [region for region in (*self.context, *group) if region.zone][-1:]
        elif clause.any("persons"):
            named = [region for region in group if region.objects] or group[-1:] or list(self.context)
        elif clause.any("things") and not clause.any("whole") and self._named:
            one = str(self._named[-1]) in _SINGULAR
            return group[-1:] if one or not self._named_in_task else []
        else:
            return []
        words = clause.of("rest", "persons")
        if not named and words:
            self.dangling = self.dangling or str(words[0])
        return named

    def _resets_kinds(self, clause: Clause) -> bool:
        """Read "reset the brightness": the effects of that kind end."""
        if not clause.any("reset") or clause.any("up", "down"):
            return False
        senses = ("amount", "nuisance", "high", "low")
        kinds = {
            mention.senses[kind]
            for mention in clause.mentions
            if "reset" not in mention
            for kind in senses
            if kind in mention
        }
        self.ended += [Effect(kind, sign * AMOUNT) for kind in sorted(kinds) for sign in (1, -1)]
        return bool(kinds)

    def _region(self, mention: Mention) -> Region | None:
        name = mention.senses.get("region") or mention.senses.get("class")
        return self.regions.get(name) if name else None

    def effects(self, *, speaks_of_tasks: bool) -> list[Effect]:
        """Return what was asked for, each effect of a region once.

        Args:
            speaks_of_tasks: whether the text asks for a task, too; then a complaint that no effect is named in is none.

        Raises:
            ContradictionError: opposite effects of one region.
        """
        self._settle_faint(speaks_of_tasks=speaks_of_tasks)
        self._inherit()
        found: dict[tuple[str, Region | None], Effect] = {}
        placed_kinds = {
            (wish.kind, wish.sign)
            for placed in self._placed
            for wish in placed.wishes
            if placed.regions and not wish.ended
        }
        for placed in self._placed:
            for wish in placed.wishes:
                if wish.ended:
                    self.ended += [Effect(wish.kind, wish.sign * AMOUNT, each) for each in placed.regions or (None,)]
                    continue
                if placed.regions is None and (wish.kind, wish.sign) in placed_kinds:
                    continue  # "it is too dark, brighten the people"
                for region in placed.regions or (None,):
                    before = found.get((wish.kind, region))
                    if before is not None and (before.amount > 0) != (wish.sign > 0):
                        raise ContradictionError("it contradicts itself: it asks for opposite effects at once")
                    if before is None or abs(before.amount) == AMOUNT:
                        found[wish.kind, region] = Effect(wish.kind, wish.sign * placed.amount, region)
        return [self._spared(effect) for effect in found.values()]

    def _spared(self, effect: Effect) -> Effect:
        """Return an effect without the region that it is declined for: "blur everything, but don't blur the people".

        Raises:
            ContradictionError: nothing is left of it.
        """
        for other in self.ended:
            if other.kind == effect.kind and (other.amount > 0) == (effect.amount > 0):
                if other.region in (None, effect.region):
                    raise ContradictionError("it contradicts itself: it both wants and does not want an effect")
                if effect.region is None and other.region is not None:
                    effect = replace(effect, region=other.region.complement())
        return effect

    def _settle_faint(self, *, speaks_of_tasks: bool) -> None:
        """Drop complaints that name no effect where something else is asked for; their region goes to what is."""
        if not speaks_of_tasks and all(wish.faint for placed in self._placed for wish in placed.wishes):
            return
        for placed in self._placed:
            placed.wishes = [wish for wish in placed.wishes if not wish.faint]
        for before, after in pairwise(self._placed):
            if not before.wishes and after.regions is None:
                after.regions = before.regions

    def _inherit(self) -> None:
        """Give effects without a region that of their neighbours: "the people brighter and sharper"."""
        for before, after in pairwise(self._placed):
            joined = after.clause.joined in ("and", "but") and before.regions
            if joined and after.regions is None and bare(after.clause) and not any(w.verb for w in after.wishes):
                after.regions = list(before.regions or ())
        for before, after in pairwise(self._placed):
            verbs = all(wish.verb for wish in (*before.wishes, *after.wishes))
            joined = after.clause.joined in ("and", "but") and after.regions
            if joined and before.regions is None and bare(before.clause) and verbs:
                before.regions = list(after.regions or ())
