"""Folders of transformers, tiny and random: the same boxes as transformers' own reading of the same networks."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
)

from irvf.models import ModelError
from irvf.perception.detector_files import load_detector

NAMES = {0: "person", 1: "bicycle", 2: "car"}
SIZE = {"height": 96, "width": 160}
_STAGES = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
_LAYERS = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
_LABELLED = {"id2label": NAMES, "label2id": {name: number for number, name in NAMES.items()}}
_REAL_TIME = {
    **_LAYERS, **_LABELLED, "encoder_hidden_dim": 32, "encoder_in_channels": [24, 32, 48], "d_model": 32,
    "num_queries": 30, "decoder_in_channels": [32, 32, 32], "decoder_layers": 2, "decoder_n_points": 2,
}  # fmt: skip


def rt_detr():
    stages = ["stage2", "stage3", "stage4"]
    backbone = RTDetrResNetConfig(**_STAGES, layer_type="basic", out_features=stages)
    network = RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **_REAL_TIME))
    return network, RTDetrImageProcessor(size=SIZE)


def d_fine():
    backbone = HGNetV2Config(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], stem_channels=[3, 8, 16],
        stage_in_channels=[16, 16, 24, 32], stage_mid_channels=[8] * 4, stage_out_channels=[16, 24, 32, 48],
        stage_num_blocks=[1] * 4, stage_numb_of_layers=[1] * 4, out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = DFineConfig(backbone_config=backbone, **(_REAL_TIME | {"decoder_n_points": [2, 2, 2]}))
    return DFineForObjectDetection(config), RTDetrImageProcessor(size=SIZE)


def detr():
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, num_queries=30, d_model=32,
        backbone_config=ResNetConfig(**_STAGES, layer_type="basic", out_features=["stage4"]), encoder_layers=1,
        decoder_layers=1, **_LAYERS, **_LABELLED,
    )  # fmt: skip
    size = {"shortest_edge": 96, "longest_edge": 160}
    return DetrForObjectDetection(config), DetrImageProcessor(size=size)


def lively(network):
    """Spread what a random network says: at first all of its queries see nearly the same."""
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, 96, 160, generator=generator)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = 2 if "query" in name else 0.15
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
        logits = network.eval()(pixel_values=image).logits[0]
        # Logits of every class around 0 with a standard deviation of 2.
        one = hasattr(network, "class_labels_classifier")
        head = network.class_labels_classifier if one else network.model.decoder.class_embed[-1]
        stretch = 2 / logits.std(dim=0)
        head.weight.mul_(stretch[:, None])
        head.bias.sub_(logits.mean(dim=0)).mul_(stretch)
    return network


@pytest.fixture(scope="module", params=[rt_detr, d_fine, detr], ids=lambda make: make.__name__)
def saved(request, tmp_path_factory):
    """A network, its processor, and the folder that both were saved to."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network, processor = request.param()
    folder = tmp_path_factory.mktemp(request.param.__name__)
    lively(network).save_pretrained(folder)
    processor.save_pretrained(folder)
    return network, processor, folder


def never(_):
    raise AssertionError("a folder of transformers needs no engine")


def smooth(height, width):
    """An image whose resizing is the same whatever the filter: each channel is a plane."""
    rows, columns = np.mgrid[:height, :width]
    planes = (60 + 120 * rows / height, 40 + 160 * columns / width, 200 - 60 * (rows / height + columns / width))
    return np.stack(planes, axis=2).round().astype(np.uint8)


def clipped(found, height, width):
    boxes = np.clip(found["boxes"].numpy(), 0, [width, height, width, height])
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[solid], found["scores"].numpy()[solid], [NAMES[int(n)] for n in found["labels"][solid]]


# Of its own size, larger, and of another aspect: stretched by RT-DETR, kept by DETR.
@pytest.mark.parametrize("size", [(96, 160), (192, 320), (200, 120)])
def test_finds_what_transformers_finds(saved, size):
    network, processor, folder = saved
    rgb = smooth(*size)
    with torch.inference_mode():
        outputs = network(**processor(rgb, return_tensors="pt", input_data_format="channels_last"))
    theirs = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[size])[0]
    boxes, scores, labels = clipped(theirs, *size)
    assert len(scores) > 10
    assert np.ptp(scores) > 0.05
    detector = load_detector(str(folder), never)
    assert detector.labels == tuple(NAMES.values())
    detector.score_threshold = 0.0
    found = detector.detect(rgb)
    order = np.argsort(-scores, kind="stable")
    tolerance = 1e-4 if size == (96, 160) else 5e-2  # resized by OpenCV here, by Pillow there
    np.testing.assert_allclose([one.score for one in found], scores[order], atol=tolerance)
    for one in found:  # neighbours in score may change places
        box = (one.box.x_min, one.box.y_min, one.box.x_max, one.box.y_max)
        alike = [k for k, label in enumerate(labels) if label == one.label and abs(scores[k] - one.score) < tolerance]
        assert min(np.abs(boxes[alike] - box).max(axis=1), default=np.inf) < tolerance * max(size)
    threshold = float(np.median(scores))
    detector.score_threshold = threshold
    assert all(one.score >= threshold for one in detector.detect(rgb))
    assert {one.label for one in detector.detect(rgb, ("car",))} <= {"car"}


def test_the_input_has_the_size_that_transformers_gives_it(saved):
    _, processor, folder = saved
    image = load_detector(str(folder), never)._image
    for size in [(96, 160), (480, 640), (640, 480), (101, 333), (512, 511), (64, 64)]:
        expected = processor(np.zeros((*size, 3), np.uint8), return_tensors="pt")["pixel_values"]
        letterbox = image.fit(size)
        blob = image.blob(np.full((*size, 3), 90, np.uint8), letterbox)
        assert blob.shape == tuple(expected.shape)
        filled = processor(np.full((*size, 3), 90, np.uint8), return_tensors="pt")["pixel_values"].numpy()
        np.testing.assert_allclose(blob, filled, atol=1e-5)


def refusal(folder):
    with pytest.raises(ModelError) as raised:
        load_detector(str(folder), never)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    return str(raised.value)


def copy(folder, to, *left_out):
    to.mkdir()
    for file in folder.iterdir():
        if file.name not in left_out:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_weights_of_pickle_are_not_loaded(saved, tmp_path):
    network, _, folder = saved
    torch.save(network.state_dict(), copy(folder, tmp_path / "own", "model.safetensors") / "pytorch_model.bin")
    assert "safetensors" in refusal(tmp_path / "own")


def test_weights_that_lack_a_part_are_refused(saved, tmp_path):
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    folder = copy(saved[2], tmp_path / "own")
    tensors = load_file(folder / "model.safetensors")
    heads = [name for name in tensors if "class_" in name and name.endswith("bias")]
    save_file({name: tensor for name, tensor in tensors.items() if name not in heads}, folder / "model.safetensors")
    assert "lack" in refusal(folder)


def test_a_folder_that_is_no_detector(saved, tmp_path):
    folder = copy(saved[2], tmp_path / "own", "preprocessor_config.json")
    assert "preprocessor_config.json" in refusal(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": SIZE}))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "object detection" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json" in refusal(folder)


def test_neither_torch_nor_transformers_is_imported_for_other_detectors():
    code = (
        "import sys; from irvf.perception.detector_files import load_detector; import irvf.pipeline;"
        "assert not {'torch', 'transformers', 'ultralytics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
