"""Instructions of any text: ``interpret`` never raises, and a text takes a bounded time."""

import contextlib
import time

import harness

with harness.instrumented():
    from irvf.instruction.interpreter import MAX_LENGTH, Interpreter, clean_text
    from irvf.instruction.interpreters import load_interpreter

LONGEST_S = 2.0
"""Of processor time for one text, instrumented, which is several times slower."""
_ENCODER_EVERY = 16
CORPUS = (
    "detection", "segmentation", "saliency", "viewing", "detect people, bicycles and cars", "segment the people only",
    "do not detect anything", "make it brighter", "much darker where the people are", "more contrast, less noise",
    "sharper in the upper left corner", "reset everything", "brighter everywhere but the sky", "and now the rest",
    "everything except cars", "finde die Menschen", "zeig mir Autos, aber keine Fahrräder", "heller, bitte",
    "encuentra a las personas", "más brillo en la parte izquierda", "trouve les piétons", "plus sombre",
    "a bit more thermal on them", "find poeple and bycicles", "what stands out?", "don't", "not not not", "🚗 people",
    "\u202edetect\u202c", "\uff24\uff25\uff34\uff25\uff23\uff34", "de\u0301tection", "1 2 3 4,5 %", "\x00\x1b[31m", "",
)  # fmt: skip


class Readers:
    """The interpreter with its words alone, and with what tells the meaning of sentences."""

    def __init__(self) -> None:
        self.words: Interpreter = load_interpreter(encoder="")
        self.whole: Interpreter = load_interpreter()


def one(data: bytes) -> None:
    """Read up to three texts, one after the other, as a user gives them."""
    if not data:
        return
    interpreter = READERS.words if data[0] % _ENCODER_EVERY else READERS.whole
    default = interpreter.grammar.tasks["viewing"]
    current = None
    texts = data[1:].decode("utf-8", "surrogatepass" if data[0] & 128 else "replace").split("\x1e")
    for sequence, text in enumerate(texts[:3]):
        started = time.process_time()
        read = interpreter.interpret(text, current)
        spent = time.process_time() - started
        assert spent < LONGEST_S, f"{spent:.1f} s for {text!r}"
        assert read.message
        assert len(read.text) <= MAX_LENGTH
        assert read.text == clean_text(read.text), "what is shown is clean"
        assert 0 <= read.confidence <= 1
        if not read.accepted:
            assert read.reason
            continue
        with contextlib.suppress(ValueError):  # too many effects, or none to take back
            current = read.instruction(sequence + 1, current, default)


def guarded(data: bytes) -> None:
    """Read texts; bytes that are none at all are no input."""
    try:
        data[1:].decode("utf-8", "surrogatepass" if data[:1] >= b"\x80" else "replace")
    except UnicodeDecodeError:
        return
    one(data)


def seeds():
    """Instructions of four languages, alone, in a row, and after one with regions."""
    for number, text in enumerate(CORPUS):
        yield bytes([number % 127]) + text.encode()
        yield bytes([1]) + "\x1e".join(("segment the people", text, "brighter on them")).encode()
    yield b"\x81" + "people \ud800".encode("utf-8", "surrogatepass")


if __name__ == "__main__":
    READERS = Readers()
    harness.fuzz(guarded, seeds(), max_bytes=400)
