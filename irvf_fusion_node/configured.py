"""What configure makes and cleanup gives back: the pipeline under its watchdog, the instruction desk, publishers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from rclpy.lifecycle import LifecycleNode

from irvf.engines.tensorrt_builder import Progress
from irvf.imaging.camera_geometry import RigGeometry
from irvf.instruction.fallback_interpreter import FallbackInterpreter, with_language_model
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.interpreters import load_interpreter
from irvf.paths import MAX_CONFIG_BYTES, checked_path
from irvf.pipeline import WARM_UP_SIZE, FusionPipeline, LiveConfig
from irvf_fusion_node.configuration import NodeConfig
from irvf_fusion_node.conversions import image_conversion
from irvf_fusion_node.engine_health import Event, Patience, fallback_engines
from irvf_fusion_node.instructions import InstructionDesk
from irvf_fusion_node.outputs import Outputs
from irvf_fusion_node.watchdog import Watchdog

_SLOWER = 5.0
"""An inference hangs when it takes this many times as long as the one of the warm-up, at least."""
_SIZES_KEPT = 100
_LEAST_MAKE_TIMEOUT = 30.0
_MAKE_TIMES = 5.0


class Configured:
    """Everything that lives from configure to cleanup.

    Args:
        node: whose publishers these are.
        config: of the node.
        progress: is told how the build of an engine goes.
        wait_for_pause: see :class:`irvf_fusion_node.instructions.InstructionDesk`.
        on_engine_event: is told what the watchdog does, in whatever thread.

    Attributes:
        config: as given.
        conversion: of image messages.
        watchdog: runs the pipeline.
        desk: keeps the instruction in force.
        outputs: publish.
        report: what was loaded, in words.

    Raises:
        Exception: whatever keeps it from being made; nothing is left behind then.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        progress: Progress,
        wait_for_pause: Callable[[float], None],
        on_engine_event: Callable[[Event], None],
    ) -> None:
        started = time.monotonic()
        self.config = config
        self.conversion = image_conversion(config.image_conversion)
        self._live = config.live
        self._warm_scale = config.live.processing_scale
        self._sizes: set[tuple[int, int]] = set()
        self._geometry: RigGeometry | None = None
        options = replace(config.pipeline.engine_options, progress=progress)
        if config.engine_cache:
            options = replace(options, cache_folder=checked_path(config.engine_cache, "engine_cache", "new folder"))
        self._pipeline_config = replace(config.pipeline, engine_options=options)
        with ExitStack() as threads:  # they end where what follows fails
            pipeline = FusionPipeline(self._pipeline_config, config.live)
            reader = _instruction_reader(config, pipeline)
            if isinstance(reader, FallbackInterpreter):
                threads.callback(reader.close)
            self._reader = reader
            now = node.get_clock().now().to_msg()
            pair_time = pipeline.warm_up()
            took = time.monotonic() - started
            self.watchdog: Watchdog[FusionPipeline] = Watchdog(
                pipeline,
                fallback_engines(config.pipeline.engine, pipeline.engine_description),
                self._make,
                adopt=self._adopt,
                on_event=on_engine_event,
                patience=_patience(config.watchdog_timeout, pair_time, took),
            )
            threads.callback(self.watchdog.close, 1.0)
            first, watchdog = config.initial_instruction, self.watchdog
            self.desk = InstructionDesk(reader, lambda: watchdog.current, first, now, wait_for_pause)
            threads.callback(self.desk.close, 1.0)
            self.outputs = Outputs(node, self.conversion, config.jpeg_quality)
            threads.pop_all()
        heads = ", ".join(f"{head} {model or 'none'}" for head, model in config.pipeline.heads.items())
        self.report = (
            f"model {pipeline.model_name}, {heads}, engine {pipeline.engine_description}, warm after {took:.1f} s"
        )

    @property
    def pipeline(self) -> FusionPipeline:
        """The one in use."""
        return self.watchdog.current

    @property
    def language_model(self) -> str:
        """How the language model does; empty where there is none."""
        if not isinstance(self._reader, FallbackInterpreter):
            return ""
        parser = self._reader.parser
        return f"{parser.failures} texts without an answer" + (f", the last: {parser.reason}" if parser.reason else "")

    def patience(self, height: int, width: int) -> float:
        """Return how many times as long as usual an RGB image of a size may take; more where it is the first such."""
        pixels = height * width / (WARM_UP_SIZE[0] * WARM_UP_SIZE[1])
        new = (height, width) not in self._sizes
        if new and len(self._sizes) < _SIZES_KEPT:
            self._sizes.add((height, width))
        return max(1.0, pixels * (self._live.processing_scale / self._warm_scale) ** 2) * (2.0 if new else 1.0)

    def reconfigure(self, live: LiveConfig) -> None:
        """Use other settings from the next pair on.

        Raises:
            ValueError: a setting is out of range; the old ones stay.
        """
        live = replace(live, geometry=self._geometry)

        def change(pipeline: FusionPipeline) -> None:
            pipeline.reconfigure(live)
            self._live = live

        self.watchdog.apply(change)

    def use_geometry(self, geometry: RigGeometry | None) -> None:
        """Register by another geometry of the cameras from the next pair on."""
        self._geometry = geometry
        self.reconfigure(self._live)

    def _make(self, engine: str) -> FusionPipeline:
        """Make a pipeline on another engine, or on the same one anew; in a background thread."""
        options = replace(self._pipeline_config.engine_options, progress=None)  # which tells of configure
        config = replace(self._pipeline_config, engine=engine, engine_options=options)
        pipeline = FusionPipeline(config, self._live)
        pipeline.prompt(self.desk.current)
        pipeline.warm_up()
        return pipeline

    def _adopt(self, pipeline: FusionPipeline) -> None:
        pipeline.reconfigure(self._live)
        pipeline.prompt(self.desk.current)
        self.pipeline.close()

    def close(self, timeout: float) -> list[str]:
        """Give everything back; return what has not ended within ``timeout`` seconds, in words."""
        left = []
        if not self.desk.close(timeout):
            left.append(f"an instruction is still being read after {timeout:.0f} s")
        if isinstance(self._reader, FallbackInterpreter):
            self._reader.close()
        if not self.watchdog.close(timeout):
            left.append("an inference, or an engine that was being made, has not ended; it is left behind")
        self.pipeline.close()
        self.outputs.close()
        return left


def _patience(timeout: float, pair_time: float, make_time: float) -> Patience:
    """Return how long things may take on this machine, of which the warm-up has shown how fast it is."""
    make_timeout = max(_LEAST_MAKE_TIMEOUT, _MAKE_TIMES * make_time)
    return Patience(timeout=max(timeout, _SLOWER * pair_time) if timeout else 0.0, make_timeout=make_timeout)


def _instruction_reader(config: NodeConfig, pipeline: FusionPipeline) -> Interpreter | FallbackInterpreter:
    tasks_file = None
    if config.tasks_file:
        tasks_file = checked_path(config.tasks_file, "instruction.tasks_file", "file", MAX_CONFIG_BYTES)
    name, embed = pipeline.text_encoder or ("", None)
    shared = embed if name == config.instruction_encoder else None
    interpreter = load_interpreter(tasks_file, pipeline.known_classes, config.instruction_encoder, shared)
    if not config.language_model:
        return interpreter
    folder = checked_path(config.language_model, "instruction.language_model", "folder")
    return with_language_model(interpreter, str(folder), config.language_model_timeout)
