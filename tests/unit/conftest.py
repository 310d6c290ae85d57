import os

import cv2
import numpy as np
import pytest

# Threads of tiny networks only wait for each other, and for whatever else runs on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _scene(rng, height, width):
    """A dark street with a warm block that RGB hardly shows, and a coloured block that thermal does not."""
    rgb = np.full((height, width, 3), (60, 80, 70), np.int16) + rng.integers(-8, 9, (height, width, 1))
    rgb[height // 4 : height // 2, width // 8 : width // 3] = (150, 60, 40)
    thermal = np.full((height, width), 40, np.int16) + rng.integers(-4, 5, (height, width))
    thermal[height // 3 : height * 3 // 4, width // 2 : width * 3 // 4] = 220
    return thermal.astype(np.uint8), rgb.astype(np.uint8)


@pytest.fixture
def scene():
    """Return a function that renders thermal ``[H x W]`` and RGB ``[H x W x 3]``, uint8."""

    def render(height=48, width=64, seed=0):
        return _scene(np.random.default_rng(seed), height, width)

    return render


@pytest.fixture
def pair_folder(tmp_path):
    """Return a function that writes SET/thermal/NAME.png and SET/rgb/NAME.png and returns their root."""

    def write(names=("a", "b", "c"), dataset="street", size=(48, 64), root=tmp_path / "pairs"):
        for index, name in enumerate(names):
            thermal, rgb = _scene(np.random.default_rng(index), *size)
            for kind, image in (("thermal", thermal), ("rgb", rgb[..., ::-1])):
                folder = root / dataset / kind
                folder.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(folder / f"{name}.png"), image)
        return root

    return write
