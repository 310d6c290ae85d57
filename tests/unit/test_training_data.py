"""Image folders for training: pairing, splitting, reading, and crops that stay aligned."""

import cv2
import numpy as np
import pytest

from irvf.training.base import BaseTrainingConfig, load_planes, sample_batch
from irvf.training.data import cut_crop, find_pairs, hold_back


def names(pairs):
    return [(pair.dataset, pair.name) for pair in pairs]


def test_pairs_come_sorted_by_set_and_name(pair_folder):
    pair_folder(("b", "a"), dataset="street")
    root = pair_folder(("c",), dataset="forest")
    assert names(find_pairs(root)) == [("forest", "c"), ("street", "a"), ("street", "b")]
    assert names(find_pairs(root, ("street",))) == [("street", "a"), ("street", "b")]


def test_a_single_set_can_be_given_itself(pair_folder):
    root = pair_folder(("a",))
    assert names(find_pairs(root / "street")) == [("street", "a")]
    assert names(find_pairs(root / "street", ("street",))) == [("street", "a")]


def test_images_without_a_partner_are_all_named(pair_folder):
    root = pair_folder(("a", "b", "c", "d"))
    (root / "street" / "thermal" / "b.png").unlink()
    (root / "street" / "rgb" / "d.png").unlink()
    with pytest.raises(ValueError, match=r"2 images .*street/b, street/d"):
        find_pairs(root)


def test_the_suffix_may_differ_and_other_files_are_left_alone(pair_folder):
    root = pair_folder(("a",))
    folder = root / "street" / "rgb"
    image = cv2.imread(str(folder / "a.png"))
    (folder / "a.png").unlink()
    cv2.imwrite(str(folder / "a.JPG"), image)
    (folder / "notes.txt").write_text("sunny")
    assert names(find_pairs(root)) == [("street", "a")]


@pytest.mark.parametrize("given", ["root", "set"])
def test_a_set_that_is_not_there_is_named(pair_folder, given):
    root = pair_folder()
    with pytest.raises(ValueError, match="harbour"):
        find_pairs(root if given == "root" else root / "street", ("harbour",))


def test_a_folder_without_pairs_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"no pairs under .*expected thermal/NAME"):
            find_pairs(folder)


def test_a_contiguous_block_of_each_named_set_is_held_back(pair_folder):
    pair_folder(("a", "b", "c", "d"), dataset="street")
    root = pair_folder(("a", "b", "c", "d"), dataset="forest")
    training, held = hold_back(find_pairs(root), {"street": "c"})
    assert names(held) == [("street", "c"), ("street", "d")]
    assert names(training) == [("forest", name) for name in "abcd"] + [("street", "a"), ("street", "b")]


def test_images_of_different_sizes_and_damaged_ones_are_named_together(pair_folder):
    root = pair_folder(("a", "b", "c"))
    cv2.imwrite(str(root / "street" / "thermal" / "a.png"), np.zeros((20, 30), np.uint8))
    (root / "street" / "rgb" / "c.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"2 pairs") as raised:
        load_planes(find_pairs(root))
    assert "street/a: thermal is 30x20, RGB 64x48" in str(raised.value)
    assert str(root / "street" / "rgb" / "c.png") in str(raised.value)


def test_pairs_are_read_as_they_were_written(pair_folder, scene):
    (pair,) = find_pairs(pair_folder(("a",)))
    thermal, rgb = pair.load()
    expected_thermal, expected_rgb = scene(48, 64, seed=0)
    np.testing.assert_array_equal(thermal, expected_thermal)
    np.testing.assert_array_equal(rgb, expected_rgb)


def test_crops_are_cut_turned_and_mirrored_alike_in_both_modalities():
    # Position is written into the pixels, so that each modality tells where its crop lies.
    rows, columns = np.mgrid[0:80, 0:120].astype(np.float32)
    position = np.dstack((rows, columns))
    orientations = set()
    for seed in range(60):
        one, two = cut_crop([position, position[..., ::-1].copy()], 32, np.random.default_rng(seed), (0.5, 1.5))
        assert one.shape == two.shape == (32, 32, 2)
        np.testing.assert_array_equal(one, two[..., ::-1])
        right, down = one[0, -1] - one[0, 0], one[-1, 0] - one[0, 0]
        orientations.add((tuple(np.sign(np.round(right))), tuple(np.sign(np.round(down)))))
        # As many source pixels across as down: the crop is not stretched.
        assert np.abs(right).max() == pytest.approx(np.abs(down).max(), rel=1e-3)
    assert len(orientations) == 8  # four turns, mirrored or not


def test_crops_of_images_that_are_too_small_are_enlarged():
    image = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
    (crop,) = cut_crop([image], 64, np.random.default_rng(0), (0.5, 1.0))
    assert crop.shape == (64, 64)
    assert crop.min() >= 0
    assert crop.max() <= image.max()


def test_a_step_has_the_same_batch_however_often_it_is_drawn():
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.integers(0, 256, (2, 150, 150), dtype=np.uint8)) for _ in range(3)]
    config = BaseTrainingConfig(steps=100)
    thermal, luma, chosen = sample_batch(pairs, config, 7)
    again, other = sample_batch(pairs, config, 7)[0], sample_batch(pairs, config, 8)[0]
    assert thermal.shape == luma.shape == (6, 1, 96, 96)
    assert len(chosen) == 6
    assert set(chosen) <= {0, 1, 2}
    assert (thermal == again).all()
    assert not (thermal == other).all()
    assert thermal.min() >= 0
    assert thermal.max() <= 1


def test_the_last_steps_see_larger_crops():
    pairs = [(np.zeros((300, 300), np.uint8),) * 2]
    config = BaseTrainingConfig(steps=100)
    assert sample_batch(pairs, config, 84)[0].shape[-1] == 96
    assert sample_batch(pairs, config, 85)[0].shape[-1] == 224
