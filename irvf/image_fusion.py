"""Fusion of aligned 8-bit images, one function for each instruction, as training and evaluation want it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from irvf.engines.factory import EngineOptions
from irvf.frames import Frame, FramePair, Image8
from irvf.pipeline import FusionPipeline, LiveConfig, PipelineConfig, read_instruction

ImageFusion = Callable[[Image8, Image8], Image8]
"""Maps aligned thermal ``[H x W]`` and RGB ``[H x W x 3]`` uint8 images to the fused RGB image."""


def image_fusion(model: str, threads: int = 0, instruction: str = "viewing", scale: float = 1.0) -> ImageFusion:
    """Return a fusion of aligned 8-bit images, as training and evaluation want it.

    Args:
        model: as :attr:`PipelineConfig.model`.
        threads: of the engine; 0 takes all cores.
        instruction: text under which it fuses.
        scale: as :attr:`LiveConfig.processing_scale`.

    Raises:
        ValueError: the instruction is not understood, with what is; or the scale is out of range.
    """
    return image_fusions(model, [instruction], threads, scale)[instruction]


def image_fusions(
    model: str, instructions: Sequence[str], threads: int = 0, scale: float = 1.0, precision: str = "fp32"
) -> dict[str, ImageFusion]:
    """Return what :func:`image_fusion` does under each instruction, with one engine between them all.

    A session of the engine takes more than a gigabyte at full size. ``precision`` is that of
    :class:`irvf.engines.factory.EngineOptions`.
    """
    understood = {text: read_instruction(text) for text in instructions}
    config = PipelineConfig(model=model, detector="", segmentation="", saliency="", threads=threads)
    config = replace(config, engine_options=EngineOptions(precision))
    pipeline = FusionPipeline(config, LiveConfig(processing_scale=scale))

    def fuse(thermal: Image8, rgb: Image8, text: str) -> Image8:
        return pipeline.fuse(FramePair(Frame(thermal, "mono8"), Frame(rgb, "rgb8")), understood[text]).fused

    return {text: partial(fuse, text=text) for text in understood}
