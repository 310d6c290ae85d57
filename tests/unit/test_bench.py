"""`irvf bench`: what is measured took turns, and what is written are its figures."""

import json
import sys
import time

import numpy as np
import pytest

from irvf.cli.__main__ import main
from irvf.evaluation.timing import Times, growth, resident_bytes, street_pair, time_pipelines
from irvf.pipeline import FusionPipeline, PipelineConfig, read_instruction

NO_HEADS = {"detector": "", "segmentation": "", "saliency": ""}


class Slow:
    """A pipeline whose fusion takes a known time."""

    def __init__(self, name, seconds, calls):
        self.name, self.seconds, self.calls = name, seconds, calls

    def fuse(self, pair, instruction):
        self.calls.append(self.name)
        time.sleep(self.seconds)
        result = FusionPipeline(PipelineConfig("max", **NO_HEADS)).fuse(pair, instruction)
        result.stage_ms["fuse"] = self.seconds * 1e3
        return result


def test_a_pair_is_as_cameras_send_it():
    pair = street_pair(70, 50)
    assert pair.thermal.image.shape == (50, 70)
    assert pair.rgb.image.shape == (50, 70, 3)
    assert pair.rgb.image.dtype == pair.thermal.image.dtype == np.uint8
    assert pair.rgb.image.std() > 10
    np.testing.assert_array_equal(pair.rgb.image, street_pair(70, 50).rgb.image)


def test_pipelines_take_turns_and_only_the_rounds_count():
    calls = []
    pipelines = {"a": Slow("a", 0.001, calls), "b": Slow("b", 0.004, calls)}
    ticks = []
    times = time_pipelines(
        pipelines, street_pair(64, 48), read_instruction(), rounds=4, warm_up=2, done=lambda: ticks.append(1)
    )
    assert calls == ["a", "b"] * 6
    assert len(ticks) == 6
    assert [len(times[name].stages["total"]) for name in times] == [4, 4]
    assert times["b"].least("fuse") == pytest.approx(4)
    assert times["b"].least("total") >= 4 > times["a"].least("fuse")
    with pytest.raises(ValueError, match="0 rounds"):
        time_pipelines(pipelines, street_pair(64, 48), read_instruction(), rounds=0)


def test_percentiles_are_those_of_the_rounds():
    times = Times({"fuse": np.array([5.0, 1.0, 3.0, 2.0, 4.0])})
    assert times.least("fuse") == 1
    assert times.percentile("fuse", 50) == 3
    assert times.percentile("fuse", 95) == pytest.approx(4.8)


def test_memory_grows_with_what_is_held():
    before = resident_bytes()
    held = np.ones(300_000_000, np.uint8)
    assert resident_bytes() - before > 200_000_000
    assert held.size


def test_the_command_measures_models_engines_threads_and_sizes(tmp_path, capsys):
    arguments = [
        "--models",
        "irvf-base",
        "laplacian",
        "--engines",
        "onnxruntime",
        "--threads",
        "1",
        "2",
        "--rounds",
        "2",
    ]
    arguments += ["--sizes", "64x48", "96x64", "--detector", "", "--output", str(tmp_path / "out")]
    assert main(["bench", *arguments]) == 0
    said = capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "bench.json").read_text())
    measured = content["measurements"]
    assert len(measured) == 8
    assert {(line["fusion"], line["threads"], line["width"]) for line in measured} == {
        (name, threads, width)
        for name in ("irvf-base, onnxruntime, fp32", "laplacian")
        for threads in (1, 2)
        for width in (64, 96)
    }
    for line in measured:
        assert 0 < line["stages"]["fuse"]["least_ms"] <= line["stages"]["fuse"]["p50_ms"]
        assert line["stages"]["total"]["least_ms"] > line["stages"]["fuse"]["least_ms"]
    assert content["machine"]["cores"] >= 1
    assert set(content["machine"]) >= {"date", "cpu", "commit", "packages"}
    assert content["machine"]["packages"]["onnxruntime"]
    assert "to the power of" in said
    assert "## 96 x 64, 2 threads" in said
    assert "| laplacian |" in said
    assert said.split("\n\nwritten")[0] + "\n" == (tmp_path / "out" / "bench.md").read_text()


def test_growth_is_the_power_that_times_follow():
    pixels = np.array([320 * 256, 640 * 480, 1280 * 1024])
    assert growth(pixels, 3e-5 * pixels) == pytest.approx(1)
    assert growth(pixels, 7 * pixels**0.5) == pytest.approx(0.5)
    assert growth(pixels[::2], [2.0, 2.0]) == pytest.approx(0)


def plain(tmp_path, *sizes):
    sized = ["--sizes", *sizes, "--threads", "1", "--rounds", "1", "--detector", ""]
    return main(["bench", "--models", "max", "average", *sized, "--output", str(tmp_path)])


def test_the_plot_is_written_beside_the_report(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    assert plain(tmp_path, "64x48", "96x64") == 0
    assert "bench.png" in capsys.readouterr().out
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_report_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "irvf.evaluation.bench_plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plain(tmp_path, "64x48") == 0
    said = capsys.readouterr().out
    assert "no bench.png" in said
    assert "pip install matplotlib" in said
    assert "to the power of" not in said  # one size shows no growth
    assert (tmp_path / "bench.json").exists()
    assert not (tmp_path / "bench.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--models", "nothing"], "no model 'nothing'"),
        (["--rounds", "0", "--models", "max"], "0 rounds"),
        (["--instruction", "bake a cake"], "not understood"),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path, capsys, arguments, said):
    assert main(["bench", *arguments, "--sizes", "64x48", "--output", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["640", "640x", "x480", "640*480", "-1x4"])
def test_a_size_is_width_and_height(size, capsys):
    with pytest.raises(SystemExit):
        main(["bench", f"--sizes={size}"])
    assert "WIDTHxHEIGHT" in capsys.readouterr().err
