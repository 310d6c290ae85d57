"""Labelled scenes: which boxes count, which are doubtful, and that all faults of a folder are one message."""

import cv2
import numpy as np
import pytest

from irvf.training.data import find_pairs
from irvf.training.pseudo_labels import IGNORED
from irvf.training.scenes import Annotation, load_scenes, read_labelled, read_objects

ANNOTATION = Annotation(doubtful_boxes=("boxes_infrared",))
BLOCK = [32, 16, 48, 36]
"""The warm block of a 48 x 64 scene, in pixels."""


def write_boxes(root, name, *lines, folder="boxes_fusion", dataset="street"):
    file = root / dataset / folder / f"{name}.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines), "utf-8")


def test_boxes_are_read_in_pixels(labelled_folder):
    (pair,) = find_pairs(labelled_folder(("a",), label=2))
    objects = read_objects(pair, (48, 64), ANNOTATION)
    np.testing.assert_allclose(objects.boxes, [BLOCK], atol=0.01)
    assert objects.labels.tolist() == [2]
    assert objects.doubtful.shape == (0, 4)


def test_only_what_no_labelled_box_explains_is_doubtful(labelled_folder):
    root = labelled_folder(("a",))
    # The block again, a little off; one far away; and one that shares a corner with the block (IoU below 0.3).
    lines = ("0 0.64 0.54 0.25 0.42", "1 0.15 0.3 0.1 0.2", "0 0.76 0.75 0.25 0.42")
    write_boxes(root, "a", *lines, folder="boxes_infrared")
    (pair,) = find_pairs(root)
    objects = read_objects(pair, (48, 64), ANNOTATION)
    assert len(objects.boxes) == 1
    np.testing.assert_allclose(objects.doubtful[:, 0], [0.1 * 64, 0.635 * 64], atol=0.1)


def test_without_a_file_there_are_no_objects(pair_folder):
    (pair,) = find_pairs(pair_folder(("a",)))
    objects = read_objects(pair, (48, 64), ANNOTATION)
    assert len(objects.boxes) == len(objects.labels) == len(objects.doubtful) == 0


def test_masks_lie_in_the_boxes(labelled_folder):
    root = labelled_folder(("a", "b"), label=1)
    write_boxes(root, "b", "0 0.15 0.3 0.1 0.2", folder="boxes_infrared")
    first, second = load_scenes(find_pairs(root), ANNOTATION)
    assert (first.name, second.name) == ("street/a", "street/b")
    block = np.zeros((48, 64), bool)
    block[BLOCK[1] : BLOCK[3], BLOCK[0] : BLOCK[2]] = True
    for scene in (first, second):
        assert set(np.unique(scene.semantic[block])) <= {0, 2}
        assert ((scene.semantic == 2) == (scene.saliency == 1)).all()  # it is warm
        assert (scene.semantic == 2)[block].mean() > 0.7
        assert not (scene.semantic == 2)[~block].any()
    assert not (first.semantic == IGNORED).any()
    assert (second.semantic == IGNORED).sum() == (second.saliency == IGNORED).sum() > 20


def test_all_faults_are_one_message(labelled_folder):
    root = labelled_folder(("a", "b", "c", "d", "e"))
    street = root / "street"
    cv2.imwrite(str(street / "thermal" / "a.png"), np.zeros((20, 30), np.uint8))
    (street / "rgb" / "b.png").write_bytes(b"no image")
    write_boxes(root, "c", "0 0.5 0.5 1.5 0.1")
    write_boxes(root, "d", "3 0.5 0.5 0.1 0.1")
    with pytest.raises(ValueError, match=r"4 pairs cannot be used") as raised:
        load_scenes(find_pairs(root), ANNOTATION)
    message = str(raised.value)
    faults = ("street/a: thermal is 30x20, RGB 64x48", "b.png is not a readable image", "values in 0..1", "is unknown")
    for fault in (*faults, "c.txt:1: ", "d.txt:1: class 3"):
        assert fault in message
    assert "\n" not in message


def test_faults_of_doubtful_boxes_count(labelled_folder):
    root = labelled_folder(("a",))
    write_boxes(root, "a", "7 0.5 0.5 0.1 0.1", folder="boxes_infrared")
    with pytest.raises(ValueError, match=r"boxes_infrared.a\.txt:1: class 7"):
        load_scenes(find_pairs(root), ANNOTATION)


def test_a_data_set_without_a_single_box_is_refused(pair_folder):
    pairs = find_pairs(pair_folder())
    with pytest.raises(ValueError, match=r"no object is labelled: .*boxes_fusion.* for street"):
        load_scenes(pairs, ANNOTATION)


def test_sets_without_labels_may_stand_beside_one_with(labelled_folder, pair_folder):
    root = labelled_folder(("a",))
    pair_folder(("x",), dataset="forest")
    # Boxes of other classes lie beside the second set; they must not be read.
    write_boxes(root, "x", "9 0.5 0.5 0.1 0.1", dataset="forest")
    found = {scene.name: scene for scene in load_scenes(find_pairs(root), ANNOTATION, {"street"})}
    assert len(found["street/a"].objects.boxes) == 1
    assert not len(found["forest/x"].objects.boxes)
    assert not found["forest/x"].semantic.any()
    assert not found["forest/x"].saliency.any()


def test_images_come_with_their_own_objects(labelled_folder, scene):
    root = labelled_folder(("a", "b"))
    write_boxes(root, "b", "1 0.5 0.5 0.5 0.5", "1 0.25 0.25 0.1 0.1")
    read = read_labelled(find_pairs(root), ANNOTATION)
    for index, (thermal, rgb, objects) in enumerate(read):
        expected_thermal, expected_rgb = scene(seed=index)
        np.testing.assert_array_equal(thermal, expected_thermal)
        np.testing.assert_array_equal(rgb, expected_rgb)
        assert len(objects.boxes) == index + 1
