"""Compressed image messages of any content: only ``FrameError`` may come of them, and no more memory than allowed."""

import time
from types import SimpleNamespace

import fuzz_images
import harness
import numpy as np

with harness.instrumented():
    from irvf.frames import Frame
    from irvf.imaging import compressed
    from irvf.imaging.encodings import LAYOUTS, MAX_SIDE, RGB_ENCODINGS, THERMAL_ENCODINGS
    from irvf.imaging.errors import FrameError

FORMATS = (
    "", "jpeg", "png", "tiff", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; png compressed bgr8",
    "mono8; jpeg compressed ", "mono16; png compressed ", "16UC1; png compressed mono16", "32FC1; tiff compressed ",
    "rgb8; tiff compressed ",
    "bgra8; png compressed bgra8", "16UC1; compressedDepth png", "mono16; jpeg compressed ", "; ; ;", "rgb8;", "webp",
)  # fmt: skip
ALLOWED = (tuple(LAYOUTS), THERMAL_ENCODINGS, RGB_ENCODINGS)
LONGEST_S = 5.0
"""Of processor time for one message, instrumented; the largest image that is decoded has 33 million pixels."""


def one(data: bytes) -> None:
    """Decode a message: two bytes choose format and what is allowed; 255 takes the format from the data too."""
    if len(data) < 2:
        return
    text, content = FORMATS[data[0] % len(FORMATS)], data[2:]
    if data[0] == 255:
        text, _, rest = content.partition(b"\0")
        text, content = text.decode("utf-8", "replace"), rest
    message = SimpleNamespace(format=text, data=content)
    allowed = ALLOWED[data[1] % len(ALLOWED)]
    started = time.process_time()
    try:
        header = compressed.check_compressed(message, allowed)
    except FrameError:
        refused(message, allowed)
        return
    assert header.encoding in allowed
    assert 0 < header.width <= MAX_SIDE
    assert 0 < header.height <= MAX_SIDE
    try:
        image, encoding = compressed.decode_compressed(message, allowed)
    except FrameError as error:
        if error.reason != "decode":
            raise AssertionError("passed by check_compressed and refused for another reason than decoding") from error
    else:
        assert encoding == header.encoding
        assert image.shape[:2] == (header.height, header.width)
        assert LAYOUTS[encoding].fits(image)
        assert not image.flags.writeable
        if image.size < 1 << 16:
            fuzz_images.walk(Frame(image, encoding), data[1])
    spent = time.process_time() - started
    assert spent < LONGEST_S, f"{spent:.1f} s"


def refused(message: SimpleNamespace, allowed: tuple[str, ...]) -> None:
    """What is refused unseen is refused by the decoder, too."""
    try:
        compressed.decode_compressed(message, allowed)
    except FrameError:
        return
    raise AssertionError("refused by check_compressed and decoded by decode_compressed")


def seeds():
    """Files of each codec, layout and depth, whole and in messages that contradict them."""
    import cv2  # noqa: PLC0415  (this function alone writes files)

    noise = np.random.default_rng(0)
    for channels in (1, 3, 4):
        shape = (9, 12) if channels == 1 else (9, 12, channels)
        for suffix, kinds in ((".jpg", ["u1"]), (".png", ["u1", "u2"]), (".tiff", ["u1", "u2", "f4"])):
            for kind in kinds:
                image = (100 + 40 * noise.random(shape)).astype(kind)
                for options in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]) if suffix == ".jpg" else ([],):
                    content = cv2.imencode(suffix, image, options)[1].tobytes()
                    name = {".jpg": "jpeg", ".png": "png", ".tiff": "tiff"}[suffix]
                    for number in (0, FORMATS.index(name), 5 + channels):
                        yield bytes([number, 0]) + content
    yield bytes([255, 0]) + b"rgb8; jpeg compressed bgr8\0" + content


if __name__ == "__main__":
    harness.fuzz(one, seeds(), max_bytes=8192, memory_mb=1536)
