"""Starts the real fusion node; a file decides whether its engines work, raise or hang. All else is the node's own.

The file named by FAULT_CONTROL holds ``MODE ENGINE``: MODE is ``raise``, ``hang`` (until the file goes) or ``lose``
(the calls that come now never return); ENGINE is ``openvino``, ``onnxruntime`` or ``all``. Without it all is well.
SIGUSR1 writes what every thread is doing to the log.
"""

import faulthandler
import os
import signal
import time
from pathlib import Path

from irvf.engines.engine import EngineError
from irvf.engines.onnx_engine import OnnxEngine
from irvf.engines.openvino_engine import OpenVinoEngine
from irvf_fusion_node.__main__ import main

CONTROL = Path(os.environ["FAULT_CONTROL"])


def fault(name):
    try:
        mode, engine = CONTROL.read_text().split()
    except (OSError, ValueError):  # absent, or just being written
        return ""
    return mode if engine in ("all", name) else ""


def can_fail(kind, name):
    infer = kind.infer

    def infer_or_fail(self, inputs):
        mode = fault(name)
        if mode == "raise":
            raise EngineError(f"{name} failed: injected")
        if mode == "lose":
            time.sleep(1e6)
        while mode == "hang" and fault(name) == "hang":
            time.sleep(0.01)
        return infer(self, inputs)

    kind.infer = infer_or_fail


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    can_fail(OpenVinoEngine, "openvino")
    can_fail(OnnxEngine, "onnxruntime")
    main()
