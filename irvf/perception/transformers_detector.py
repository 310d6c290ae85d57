"""Detection networks of ``transformers``, where a user names a folder of one; they need torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from irvf.engines.engine import Arrays, EngineError
from irvf.models import ModelError


class TransformersNetwork:
    """Any object detection network of ``transformers`` as an engine; see :class:`irvf.engines.engine.Engine`.

    Its files must be here: nothing is downloaded. Weights are read as safetensors alone, because loading a pickle runs
    what is written in it. It runs on a GPU that torch can use, else on the CPU, in 32 bits.

    Args:
        folder: as ``save_pretrained`` writes it.

    Attributes:
        labels: number of a class, as a key of ``id2label``, to its name.

    Raises:
        ModelError: no folder of a detection network that ``transformers`` loads.
    """

    input_names = ("pixel_values",)
    output_names = ("logits", "pred_boxes")

    def __init__(self, folder: Path) -> None:
        try:
            model: Any
            model, report = transformers.AutoModelForObjectDetection.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{folder} cannot be loaded as a detection network of transformers: {reason}. It needs config.json "
                "with an architecture for object detection, and model.safetensors"
            ) from error
        if report["missing_keys"]:  # transformers would leave them random
            raise ModelError(
                f"{folder}: its weights lack {len(report['missing_keys'])} of the network, as "
                f"{min(report['missing_keys'])}: they are not of the architecture that config.json names"
            )
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().requires_grad_(requires_grad=False).to(self._device)
        self.labels: dict[int, str] = model.config.id2label
        self.description = f"transformers {transformers.__version__} {self._device}, {type(model).__name__}"

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once; see :meth:`irvf.engines.engine.Engine.infer`."""
        try:
            with torch.inference_mode():
                outputs = self._model(pixel_values=torch.from_numpy(inputs["pixel_values"]).to(self._device))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"transformers failed: {' '.join(str(error).split())[:300]}") from error
        return {name: outputs[name].cpu().numpy().astype(np.float32) for name in self.output_names}
