"""Detection networks of ``ultralytics``, where a user names a ``.pt`` file; an optional extra under AGPL-3.0.

Loading such a file runs the code that is pickled in it: `detector_files.py` comes here only where that was allowed, and
only files of a trusted source may be named.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from irvf.engines.engine import Arrays, EngineError
from irvf.models import ModelError


class UltralyticsNetwork:
    """The network in a ``.pt`` file as an engine; see :class:`irvf.engines.engine.Engine`.

    Only the network is taken of ``ultralytics``; what comes before and after it is done as for all detectors. It runs
    on a GPU that torch can use, else on the CPU, in 32 bits.

    Args:
        path: the file.

    Attributes:
        names: number of a class to its name.
        task: what it was made for.
        head: class of its last part, ``RTDETRDecoder`` for one.
        image_size: side, or height and width, that it was trained at.

    Raises:
        ImportError: ``ultralytics`` is not installed.
        ModelError: it cannot load the file.
    """

    input_names = ("images",)
    output_names = ("output0",)

    def __init__(self, path: Path) -> None:
        ultralytics: Any = importlib.import_module("ultralytics")
        try:
            whole: Any = ultralytics.YOLO(str(path))
            network = whole.model.float().eval()
            network.fuse()
        except Exception as error:  # whatever the code in the file raises
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{path} cannot be loaded by ultralytics: {reason}") from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = network.requires_grad_(requires_grad=False).to(self._device)
        self.names: dict[int, str] = dict(whole.names)
        self.task = str(whole.task)
        self.head = type(network.model[-1]).__name__
        self.image_size: Any = whole.overrides.get("imgsz") or 640
        self.description = f"ultralytics {ultralytics.__version__} {self._device}"

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once; see :meth:`irvf.engines.engine.Engine.infer`."""
        try:
            with torch.inference_mode():
                outputs = self._network(torch.from_numpy(inputs["images"]).to(self._device))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"ultralytics failed: {' '.join(str(error).split())[:300]}") from error
        # The predictions come first; what training needs of the network's inside comes after them.
        first = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        return {"output0": first.float().cpu().numpy()}
