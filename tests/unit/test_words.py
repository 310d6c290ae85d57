"""Words: how texts and phrases are taken apart, and which typing errors are mended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvf.instruction.words import MARKS, Speller, phrases_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Find the CARS", "find car"),
        ("a person, an apple", "person , apple"),
        ("stop. Detect!", "stop ; detect ;"),
        ("mode: detection", "mode : detection"),
        ("task:detection", "task detection"),
        ("don't", "dont"),
        ("don\N{RIGHT SINGLE QUOTATION MARK}t", "dont"),
        ("l'image", "l image"),
        ("Fußgänger", "fussganger"),
        ("piétons à vélo", "pieton velo"),
        ("检测车", "检 测 车"),
        ("cars + people & bikes", "car , people , bike"),
        ("contrast +1", "contrast plus"),
        ("noise -1", "noise minus 1"),
        ("low-light", "low light"),
        ("boxes w/o masks", "box without mask"),
        ("buses, glass, status, axis, bodies", "bus , glass , status , axis , body"),
        ("0.5 brighter", "0 5 brighter"),
    ],
)
def test_texts_are_split_as_they_are_compared(text, words):
    assert " ".join(words_of(text)) == words


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_words_hold_nothing_that_another_reading_would_split(text):
    for word in words_of(text):
        assert word in MARKS or (word.casefold() == word and not set(word) & {" ", "\n", "."})


@pytest.mark.parametrize(
    ("phrase", "stands_for"),
    [
        ("detect(|s|ing)", {(("detect",),), (("detecting",),)}),
        ("(|show )me (box|mask)", {((*show, "me", thing),) for show in ((), ("show",)) for thing in ("box", "mask")}),
        ("frame ... around", {(("frame",), ("around",))}),
        ("hervorheben, für", {(("hervorheben", "fur"),), (("hervorheben", "fuer"),)}),
        ("... around", {(("around",),)}),
        ("!?", set()),
    ],
)
def test_phrases_stand_for_all_their_alternatives(phrase, stands_for):
    assert set(phrases_of(phrase)) == stands_for


LEXICON = ("detect", "pedestrian", "bike", "segmentation", "saliency", "sharper", "darker", "box", "cut", "überholen")


@pytest.fixture(scope="module")
def speller():
    return Speller(LEXICON, {"shaper", "like"}.__contains__)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("detct", "detect"),
        ("detecct", "detect"),
        ("detcet", "detect"),
        ("derect", "detect"),
        ("pedstrains", "pedestrian"),
        ("pedestrains", "pedestrian"),
        ("saliancy", "saliency"),
        ("segmentaton", "segmentation"),
        ("bikr", "bike"),
    ],
)
def test_typing_errors_are_mended(speller, typed, meant):
    assert speller.mend(typed) == meant
    assert speller.mend(typed) == meant  # from what is kept, too


@pytest.mark.parametrize(
    "typed",
    [
        "shaper",  # a word of the language, though one letter from "sharper"
        "like",
        "bx",  # too short to tell
        "cat",
        "dtct",  # two errors in a short word
        "weather",
        "segment8tion",
        "größer",
        "",
    ],
)
def test_what_is_no_typing_error_is_left(speller, typed):
    assert speller.mend(typed) is None


def test_what_could_be_two_words_is_left():
    assert Speller(("sharp", "shark"), lambda _word: False).mend("sharx") is None
    assert Speller(("sharp",), lambda _word: False).mend("sharx") == "sharp"


def test_the_form_keeps_the_plural(speller):
    assert (speller.form("pedestrans"), speller.form("pedestran")) == ("pedestrians", "pedestrian")
    assert speller.mend("pedestrans") == "pedestrian"


@given(st.sampled_from([word for word in LEXICON if len(word) > 3 and word.isascii()]), st.data())
def test_one_letter_left_out_of_a_long_word_is_mended_or_left(word, data):
    at = data.draw(st.integers(0, len(word) - 1))
    typed = word[:at] + word[at + 1 :]
    assert Speller(LEXICON, lambda _word: False).mend(typed) in (word, None)
    if len(typed) > 3 and 0 < at < len(word) - 1:
        assert Speller((word,), lambda _word: False).mend(typed) == word
