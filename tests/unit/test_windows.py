"""Training windows: images, masks and boxes move together, and the share that shows is what one counts."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from irvf.imaging.color import merge_luma_chroma, split_luma_chroma
from irvf.training.pair_windows import WindowPhase, cut_windows, fused_reference, merge_chroma
from irvf.training.pseudo_labels import IGNORED
from irvf.training.scenes import Objects, Scene
from irvf.training.windows import Placement, place_window

BOX = (50, 30, 90, 80)


def drawn(size=(120, 160), box=BOX, value=255):
    image = np.zeros(size, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = value
    return image


def boxes(*entries):
    return np.array(entries, np.float32).reshape(-1, 4)


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def place(rng, labels=(0,), objects=(BOX,), window_size=(96, 128), scales=(0.6, 1.6)):
    return place_window(
        (120, 160), boxes(*objects), np.array(labels), window_size=window_size, scales=scales, rng=rng
    )  # fmt: skip


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_rectangle_lies_where_its_box_says(mirrored):
    checked = 0
    for seed in range(120):
        placement = place(np.random.default_rng(seed))
        if (placement.across < 0) != mirrored:
            continue
        (box,), (shown,) = placement.move(boxes(BOX))
        cut = placement.cut(drawn(), border=0)
        assert cut.shape == (96, 128)
        mask = placement.cut(drawn(value=3), border=IGNORED, mask=True) == 3
        if min(box[2:] - box[:2]) < 4:
            continue
        np.testing.assert_allclose(extent(cut > 127), box, atol=1)
        np.testing.assert_allclose(extent(mask), box, atol=1)
        assert 0 < shown <= 1 + 1e-6
        checked += 1
    assert checked > 20


def test_without_a_change_of_size_pixels_move_whole():
    image = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    straight = Placement(12, 10, 1.0, -5.0, 1.0, -4.0)
    np.testing.assert_array_equal(straight.cut(image), image[4:14, 5:17])
    mirrored = Placement(12, 10, -1.0, 12 + 5.0, 1.0, -4.0)
    np.testing.assert_array_equal(mirrored.cut(image), image[4:14, 5:17][:, ::-1])
    moved, shown = mirrored.move(boxes((6, 4, 8, 10)))
    np.testing.assert_allclose(moved, [[12 - (8 - 5), 0, 12 - (6 - 5), 6]])
    np.testing.assert_allclose(shown, [1])


def test_outside_the_image_is_the_border_level_in_every_channel():
    placement = Placement(10, 8, 1.0, 5.0, 1.0, 3.0)
    image = np.full((20, 20, 3), 9, np.uint8)
    cut = placement.cut(image, border=114)
    assert (cut[:3] == 114).all()
    assert (cut[:, :5] == 114).all()
    assert (cut[3:, 5:] == 9).all()


def test_masks_are_not_mixed():
    mask = np.zeros((120, 160), np.uint8)
    mask[::2, ::3], mask[1::2], mask[40:60, 40:90] = 2, 3, IGNORED
    seen = set()
    for seed in range(20):
        seen |= set(np.unique(place(np.random.default_rng(seed)).cut(mask, border=IGNORED, mask=True)).tolist())
    assert seen == {0, 2, 3, IGNORED}


def test_the_share_that_shows_by_hand():
    placement = Placement(100, 100, 2.0, 0.0, 2.0, 0.0)  # shows 50 x 50 pixels of the image
    moved, shown = placement.move(boxes((40, 10, 60, 30), (10, 10, 20, 20), (60, 60, 70, 70), (45, 45, 55, 55)))
    np.testing.assert_allclose(moved[0], [80, 20, 100, 60])
    np.testing.assert_allclose(shown, [0.5, 1, 0, 0.25])


def test_no_boxes_stay_none():
    moved, shown = place(np.random.default_rng(0), labels=(), objects=()).move(boxes())
    assert moved.shape == (0, 4)
    assert shown.shape == (0,)


def test_windows_smaller_than_the_image_lie_within_it_unless_they_follow_an_object():
    for seed in range(60):
        placement = place(np.random.default_rng(seed), labels=(), objects=(), window_size=(60, 60), scales=(1.0, 1.6))
        cut = placement.cut(np.full((120, 160), 50, np.uint8), border=200)
        assert (cut[1:-1, 1:-1] == 50).all()  # half a pixel at the rim may lie outside


def test_half_of_the_windows_follow_an_object_and_a_rare_class_is_not_rare():
    crowd = [(x, 5.0, x + 2, 7.0) for x in range(5, 45)]
    labels = [0] * 40 + [1]
    rare = boxes((140, 100, 150, 110))
    shown = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        placement = place(rng, labels, [*crowd, *rare.tolist()], window_size=(20, 20), scales=(1.0, 1.0))
        shown += placement.move(rare)[1][0] > 0
    assert 50 < shown < 110  # a quarter, and a few by chance


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    thermal, semantic = drawn(), drawn(value=2)
    rgb = np.repeat(drawn()[..., None], 3, 2) + rng.integers(0, 1, (120, 160, 3)).astype(np.uint8)
    objects = Objects(boxes(BOX), np.array([1]), boxes((100, 90, 140, 110)))
    return Scene("street/a", thermal, rgb, objects, semantic, drawn(value=1))


def cut(scenes, seed=0, size=(64, 96), batch=2, gamma=(1.0, 1.0), device="cpu"):
    return cut_windows(
        scenes, WindowPhase(1.0, size, batch), scales=(0.8, 1.4), thermal_gamma=gamma,
        reference=fused_reference(np.maximum), rng=np.random.default_rng(seed), device=torch.device(device),
    )  # fmt: skip


def test_everything_known_of_a_pair_moves_together(scene):
    objects = 0
    for seed in range(30):
        batch = cut([scene], seed)
        assert batch.thermal.shape == batch.luma.shape == (2, 1, 64, 96)
        assert batch.chroma.shape == (2, 2, 64, 96)
        assert batch.semantic.shape == batch.saliency.shape == (2, 64, 96)
        assert batch.semantic.dtype == batch.saliency.dtype == torch.int64
        assert batch.names == ("street/a", "street/a")
        for index, targets in enumerate(batch.targets):
            warm, bright = batch.thermal[index, 0] > 0.5, batch.luma[index, 0] > 0.5
            assert torch.equal(warm, bright)
            asked, salient = batch.semantic[index] == 2, batch.saliency[index] == 1
            assert torch.equal(asked, salient)
            outline = 2 * (40 + 50) * 1.4
            assert (warm ^ asked).sum() <= outline
            for box in targets.boxes:
                np.testing.assert_allclose(extent(warm.numpy()), box, atol=1.5)
                objects += 1
            assert targets.labels.tolist() == [1] * len(targets.boxes)
    assert objects > 20


def test_what_hardly_shows_is_ignored_with_what_is_doubtful(scene):
    for seed in range(60):
        batch = cut([scene], seed, size=(32, 32))
        for index, targets in enumerate(batch.targets):
            shown = int((batch.semantic[index] == 2).sum())
            if shown > 20:
                assert len(targets.boxes) + len(targets.ignored) >= 1
            if not shown:
                assert not len(targets.boxes)


def test_the_same_generator_cuts_the_same_windows_and_another_others(scene):
    first, again, other = (cut([scene], seed, gamma=(0.7, 1.3)) for seed in (4, 4, 5))
    assert torch.equal(first.thermal, again.thermal)
    assert torch.equal(first.chroma, again.chroma)
    assert not torch.equal(first.thermal, other.thermal)


def test_the_reference_is_the_other_fusion_of_the_same_windows(scene):
    batch = cut([scene], 2, gamma=(1.3, 1.4))
    torch.testing.assert_close(batch.reference, torch.maximum(batch.thermal, batch.luma))


def test_gamma_changes_the_thermal_plane_alone(scene):
    grey = dataclasses.replace(scene, thermal=np.full((120, 160), 64, np.uint8))
    plain, bent = cut([grey], 1, size=(32, 32)), cut([grey], 1, size=(32, 32), gamma=(2.0, 2.0))
    inside = plain.thermal == plain.thermal.max()
    assert torch.allclose(bent.thermal[inside], torch.tensor((64 / 255) ** 2))
    assert torch.equal(plain.luma, bent.luma)


def test_luma_and_chroma_are_those_of_the_pipeline():
    # What is trained on must be what the node makes of the same image; its chroma is rounded to 8 bits.
    rgb = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8), (5, 5), 0)
    blank = np.zeros((40, 50), np.uint8)
    empty = Objects(boxes(), np.empty(0, np.int64), boxes())
    whole = cut_windows(
        [Scene("a/b", blank, rgb, empty, blank, blank)], WindowPhase(1.0, (40, 50), 1), scales=(1.0, 1.0),
        thermal_gamma=(1.0, 1.0), reference=fused_reference(np.maximum),
        rng=np.random.default_rng(0), device=torch.device("cpu"),
    )  # fmt: skip
    luma, chroma = split_luma_chroma(rgb)
    found = whole.luma[0, 0].numpy()
    mirrored = np.abs(found - luma).max() > 0.01
    np.testing.assert_allclose(found[:, ::-1] if mirrored else found, luma, atol=1 / 255)
    merged = merge_chroma(whole.luma, whole.chroma)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(merged[:, ::-1] if mirrored else merged, rgb / 255, atol=1e-5)
    darker = merge_chroma(whole.luma * 0.8, whole.chroma)[0].permute(1, 2, 0).numpy()
    expected = merge_luma_chroma(luma * np.float32(0.8), chroma) / 255
    np.testing.assert_allclose(darker[:, ::-1] if mirrored else darker, expected, atol=3 / 255)


def test_merging_keeps_the_luma_that_it_was_given():
    generator = torch.Generator().manual_seed(0)
    luma = torch.rand(2, 1, 6, 7, generator=generator) * 0.4 + 0.3
    chroma = torch.rand(2, 2, 6, 7, generator=generator) * 0.2 - 0.1
    rgb = merge_chroma(luma, chroma)
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    torch.testing.assert_close((rgb * weights).sum(1, keepdim=True), luma, rtol=0, atol=1e-5)
