"""Parameters, and files that they name, of any content: refused with a reason, never with an undocumented error."""

import contextlib
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

with harness.instrumented():
    from irvf.frames import Frame, FramePair
    from irvf.imaging.errors import FrameError
    from irvf.instruction.grammar import GrammarError, load_grammar
    from irvf.models import ModelError, load_model
    from irvf.pipeline import FusionPipeline, LiveConfig, PipelineConfig, read_instruction
    from irvf_fusion_node.parameters import PARAMETERS, NodeConfig, Parameters

NAMES = tuple(PARAMETERS)
KINDS = tuple(kind for kind in Parameter.Type if kind != Parameter.Type.NOT_SET)
TEXTS = ("", "max", "none", "homography", "auto", "percentile", "/", "..", "~", "\0", "😀", "a" * 300, "nan")
SET, TASKS, MODEL = range(3)


class Desk:
    """A node with the table of parameters, and a pipeline that live ones change; as in the fusion node."""

    def __init__(self) -> None:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(
            "fuzz",
            enable_rosout=False,
            start_parameter_services=False,
            automatically_declare_parameters_from_overrides=True,
        )
        self.settings = Parameters(self.node)
        plain = PipelineConfig(model="max", detector="", segmentation="", saliency="")
        self.pipeline = FusionPipeline(plain, LiveConfig())
        self.instruction = read_instruction("viewing")
        self.node.add_on_set_parameters_callback(self._on_set)
        self.pair = FramePair(
            Frame(np.arange(48, dtype=np.uint16).reshape(6, 8) * 100, "mono16"),
            Frame(np.arange(300, dtype=np.uint8).reshape(10, 10, 3), "rgb8"),
        )
        self.defaults = [Parameter(name, value=spec.default) for name, spec in PARAMETERS.items()]
        self.stamp = 0

    def _on_set(self, parameters):
        result = self.settings.check(parameters, configured=False)
        if result.successful:
            try:
                config = self.settings.read(parameters)
                assert isinstance(config, NodeConfig)
                self.pipeline.reconfigure(config.live)
            except ValueError as error:
                result.successful, result.reason = False, str(error)
        assert result.successful or result.reason
        return result

    def set(self, parameters) -> None:
        """Set values as the service does; what is taken must leave a node that fuses, or says why it cannot."""
        self.node.set_parameters_atomically(self.defaults)
        result = self.node.set_parameters_atomically(parameters)
        assert result.successful or result.reason
        if not result.successful:
            return
        self.stamp += 33_333_333
        frames = (replace(frame, stamp=self.stamp) for frame in (self.pair.thermal, self.pair.rgb))
        with contextlib.suppress(FrameError):
            fused = self.pipeline.fuse(FramePair(*frames), self.instruction).fused
            assert fused.shape == (10, 10, 3)


class Input:
    """Numbers and texts out of bytes; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, layout: str):
        size = struct.calcsize(layout)
        piece, self._data = self._data[:size].ljust(size, b"\0"), self._data[size:]
        return struct.unpack(layout, piece)[0]

    def number(self, spec) -> float:
        way = self.take("<B")
        if way < 100 and spec is not None and spec.low is not None:
            return float(spec.low + (spec.high - spec.low) * way / 99)
        if way < 160:
            return (0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1e-308, 5e-324)[way % 10]
        return float(self.take("<d"))

    def text(self, spec) -> str:
        way = self.take("<B")
        choices = (*(spec.choices if spec is not None else ()), *TEXTS)
        if way < 200:
            return choices[way % len(choices)]
        size = self.take("<B")
        piece, self._data = self._data[:size], self._data[size:]
        return piece.decode("utf-8", "replace")

    def value(self, kind, spec):
        if kind == Parameter.Type.BOOL:
            return bool(self.take("<B") & 1)
        if kind == Parameter.Type.INTEGER:
            return self.take("<b") if self.take("<B") & 1 else self.take("<q")
        if kind == Parameter.Type.DOUBLE:
            return self.number(spec)
        if kind == Parameter.Type.STRING:
            return self.text(spec)
        if kind == Parameter.Type.BYTE_ARRAY:
            return [bytes([self.take("<B")]) for _ in range(self.take("<B") % 12)]
        of = {
            Parameter.Type.BOOL_ARRAY: Parameter.Type.BOOL,
            Parameter.Type.INTEGER_ARRAY: Parameter.Type.INTEGER,
            Parameter.Type.DOUBLE_ARRAY: Parameter.Type.DOUBLE,
            Parameter.Type.STRING_ARRAY: Parameter.Type.STRING,
        }[kind]
        count = self.take("<B")
        return [self.value(of, None) for _ in range(9 if count < 200 else count % 12)]


def one(data: bytes) -> None:
    """Set up to four parameters, or read a file of tasks or of a model: the first byte says which."""
    if not data:
        return
    if data[0] % 3 == SET:
        source = Input(data[1:])
        parameters = []
        for _ in range(1 + source.take("<B") % 4):
            name = NAMES[source.take("<B") % len(NAMES)]
            fitting = Parameter.Type.from_parameter_value(PARAMETERS[name].default)
            way = source.take("<B")
            kind = KINDS[way % len(KINDS)] if way > 220 else fitting
            parameters.append(Parameter(name, kind, source.value(kind, PARAMETERS[name])))
        DESK.set(parameters)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(data[1:])
        if data[0] % 3 == TASKS:
            with contextlib.suppress(GrammarError):
                load_grammar(path)
        else:
            (Path(folder) / "network.onnx").write_bytes(b"network")
            with contextlib.suppress(ModelError):
                load_model(folder)


TASK_FILES = (
    "tasks:\n  counting:\n    description: people count\n    phrases: [count, how many]\n    heads: [detection]\n",
    "classes:\n  person: [hiker]\nregions:\n  road:\n    phrases: [the road]\n    zone: [[0, 0.5], [1, 0.5], [1, 1]]\n",
    "effects:\n  illumination:\n    more: [glowing]\nfillers: [kindly]\n",
)
MODEL_FILES = (
    "kind: fusion\nonnx: network.onnx\nlicence: MIT\nsize_multiple: 4\n",
    "kind: detector\nonnx: network.onnx\nlabels: [a, b]\ninput_size: [64, 96]\ntakes_other_sizes: true\n",
    "kind: segmentation\nonnx: network.onnx\nlabels: [a, b]\ninput_size: [64, 96]\ndigests: {network.onnx: 0}\n",
    "kind: text_encoder\nonnx: network.onnx\nwidth: 3\ntokenizer: network.onnx\nnetwork: {name: x}\n",
)


def seeds():
    """Each parameter alone, and files that can be read."""
    for number in range(len(NAMES)):
        for way in (0, 50, 120, 180):
            yield bytes([SET, 0, number, 0, way]) + bytes(16)
    for texts, way in ((TASK_FILES, TASKS), (MODEL_FILES, MODEL)):
        for text in texts:
            yield bytes([way]) + text.encode()


if __name__ == "__main__":
    DESK = Desk()
    harness.fuzz(one, seeds(), max_bytes=1500)
