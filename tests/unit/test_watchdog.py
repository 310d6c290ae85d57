import gc
import sys
import threading
import time
import weakref
from itertools import pairwise

import pytest

from irvf.engines.engine import EngineError
from irvf.imaging.errors import FrameError
from irvf_fusion_node.engine_health import Patience, SupervisionError, fallback_engines
from irvf_fusion_node.engine_thread import EngineThread
from irvf_fusion_node.watchdog import Watchdog

LIMIT = 10.0  # seconds; reached only when a test fails
QUICK = Patience(timeout=0.1, make_timeout=0.5, error_time=5.0, relapse=5.0, first_pause=0.05, longest_pause=0.2)


def eventually(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.001)


class Machine:
    """Pipelines whose engines can be broken: each is its engine's name and the number that it was made with."""

    def __init__(self, *engines, patience=QUICK, made_in=0.0):
        self.events = []
        self.moments = []
        self.made = []
        self.adopted = []
        self.made_in = made_in
        self.hanging = set()  # pipelines, or whole engines
        self.failing = set()
        self.unmakable = set()
        self.slow_to_make = set()
        self.released = threading.Event()
        self.finished = []
        self.watchdog = Watchdog(
            (engines[0], 0),
            engines,
            self.make,
            adopt=self.adopted.append,
            on_event=self.hear,
            patience=patience,
        )

    def hear(self, event):
        self.moments.append(time.monotonic())
        self.events.append(event)

    def make(self, engine):
        time.sleep(self.made_in)
        if engine in self.slow_to_make:
            assert self.released.wait(LIMIT)
        if engine in self.unmakable:
            raise RuntimeError(f"no {engine} today")
        self.made.append((engine, len(self.made) + 1))
        return self.made[-1]

    def work(self, pipeline):
        if {pipeline, pipeline[0]} & self.hanging:
            assert self.released.wait(LIMIT)
        if {pipeline, pipeline[0]} & self.failing:
            raise EngineError(f"{pipeline[0]} is broken")
        self.finished.append(pipeline)
        return pipeline

    def run(self):
        return self.watchdog.run(self.work)

    def kinds(self):
        return [event.kind for event in self.events]

    def until_it_works(self):
        deadline = time.monotonic() + LIMIT
        reasons = []
        while True:
            try:
                return self.run(), reasons
            except SupervisionError as error:
                reasons.append(error.reason)
            except EngineError:
                reasons.append("error")
            assert time.monotonic() < deadline, f"works no more; {self.events}"
            time.sleep(0.002)


@pytest.fixture
def machine():
    made = []

    def make(*engines, **options):
        made.append(Machine(*engines, **options))
        return made[-1]

    yield make
    for one in made:
        one.released.set()
        assert one.watchdog.close(LIMIT)


def test_work_runs_on_the_pipeline_and_returns_what_it_returns(machine):
    one = machine("fast")
    assert [one.run(), one.run()] == [("fast", 0)] * 2
    assert one.watchdog.health.state == "running"
    assert one.watchdog.health.message == ""
    assert one.events == []


def test_what_the_images_are_to_blame_for_is_passed_on_and_never_restarts_anything(machine):
    one = machine("fast")

    def refuse(_pipeline):
        raise FrameError("size", "too small")

    for _ in range(20):
        with pytest.raises(FrameError, match="too small"):
            one.watchdog.run(refuse)
    assert one.run() == ("fast", 0)
    assert one.events == []


def test_an_engine_that_hangs_is_restarted_and_its_late_result_thrown_away(machine):
    one = machine("fast", "slow")
    one.hanging.add(("fast", 0))
    begin = time.monotonic()
    with pytest.raises(SupervisionError) as hung:
        one.run()
    assert 0.1 <= time.monotonic() - begin < LIMIT / 2
    assert hung.value.reason == "engine.hung"
    result, _ = one.until_it_works()
    assert result == ("fast", 1)
    assert one.kinds() == ["hung", "restarted"]
    assert one.watchdog.health.hung_threads == 1
    assert one.watchdog.health.message == "abandoned threads: 1"
    assert not one.watchdog.health.is_error
    one.released.set()
    eventually(lambda: one.watchdog.health.hung_threads == 0)
    assert ("fast", 0) in one.finished  # it came, and nobody heard of it
    assert one.watchdog.current == ("fast", 1)
    assert one.run() == ("fast", 1)
    assert one.kinds() == ["hung", "restarted"]


def test_while_another_engine_is_made_items_are_refused_at_once_and_the_old_one_is_still_described(machine):
    one = machine("fast", made_in=0.3)
    one.hanging.add(("fast", 0))
    with pytest.raises(SupervisionError):
        one.run()
    begin = time.monotonic()
    with pytest.raises(SupervisionError, match="took more than") as restarting:
        one.run()
    assert time.monotonic() - begin < 0.05
    assert restarting.value.reason == "engine.restarting"
    assert one.watchdog.health.state == "restarting"
    assert "took more than 0.1 s" in one.watchdog.health.message
    assert one.watchdog.current == ("fast", 0)
    result, reasons = one.until_it_works()
    assert result == ("fast", 1)
    assert set(reasons) == {"engine.restarting"}


def test_an_engine_that_hangs_again_gives_way_to_the_next_one(machine):
    one = machine("fast", "slow", "slowest")
    one.hanging.add("fast")
    result, reasons = one.until_it_works()
    assert result[0] == "slow"
    assert reasons.count("engine.hung") == 2
    assert one.kinds() == ["hung", "restarted", "hung", "fallback"]
    health = one.watchdog.health
    assert (health.state, health.engine, health.is_error) == ("running", "slow", False)
    assert "fast failed; slow runs in its place" in health.message
    one.hanging.add("slow")
    result, reasons = one.until_it_works()
    assert result[0] == "slowest"


def test_after_a_good_while_an_engine_is_restarted_again_instead_of_replaced(machine):
    one = machine("fast", "slow", patience=Patience(timeout=0.05, relapse=0.1, hung_threads=9))
    for generation in (0, 1, 2):
        one.hanging.add(("fast", generation))
        result, _ = one.until_it_works()
        assert result == ("fast", generation + 1)
        time.sleep(0.15)
    assert "fallback" not in one.kinds()
    one.released.set()


def test_a_single_error_is_one_refused_item(machine):
    one = machine("fast")
    for _ in range(5):
        for _ in range(2):
            one.failing.add("fast")
            with pytest.raises(EngineError, match="fast is broken"):
                one.run()
        one.failing.clear()
        one.run()
    assert one.events == []


def test_errors_in_a_row_restart_the_engine_which_goes_on_to_be_tried_meanwhile(machine):
    one = machine("fast", made_in=0.2)
    one.failing.add(("fast", 0))
    for _ in range(3):
        with pytest.raises(EngineError, match="fast is broken"):
            one.run()
    assert one.kinds() == ["failing"]
    assert "failed 3 times in a row, the last: fast is broken" in one.events[0].message
    with pytest.raises(EngineError, match="fast is broken") as error:
        one.run()
    assert not isinstance(error.value, SupervisionError)
    result, reasons = one.until_it_works()
    assert result == ("fast", 1)
    assert set(reasons) == {"error"}
    assert one.kinds() == ["failing", "restarted"]
    # The thread of the old one is gone with it.
    eventually(lambda: [thread.name for thread in threading.enumerate()].count("engine") == 1)


def test_rare_errors_with_nothing_good_between_them_are_a_failure_too(machine):
    one = machine("fast", patience=Patience(errors=100, error_time=0.1))
    one.failing.add(("fast", 0))
    for _ in range(2):
        with pytest.raises(EngineError):
            one.run()
        time.sleep(0.15)
    eventually(lambda: one.kinds() == ["failing", "restarted"])


def test_an_engine_that_fails_only_for_a_while_is_kept(machine):
    one = machine("fast", "slow", made_in=0.3)
    one.failing.add("fast")
    for _ in range(3):
        with pytest.raises(EngineError):
            one.run()
    one.failing.clear()
    assert one.run() == ("fast", 0)
    assert one.kinds() == ["failing", "recovered"]
    assert one.watchdog.health.message == ""
    eventually(lambda: one.made)  # what has been made meanwhile is not needed any more
    time.sleep(0.05)
    assert one.run() == ("fast", 0)
    assert one.kinds() == ["failing", "recovered"]


def test_a_hung_inference_that_returns_before_another_engine_is_ready_puts_its_own_back_to_work(machine):
    one = machine("fast", made_in=0.4)
    one.hanging.add("fast")
    with pytest.raises(SupervisionError):
        one.run()
    one.released.set()
    eventually(lambda: one.watchdog.health.state == "running")
    assert not one.made
    assert one.run() == ("fast", 0)
    assert one.kinds() == ["hung", "recovered"]


def test_a_hung_inference_that_returns_with_an_error_lets_its_engine_be_tried_again(machine):
    one = machine("fast", patience=Patience(timeout=0.1, first_pause=LIMIT))
    one.unmakable.add("fast")
    one.hanging.add("fast")
    one.failing.add("fast")
    with pytest.raises(SupervisionError):
        one.run()
    eventually(lambda: one.watchdog.health.state == "failed")
    one.released.set()
    eventually(lambda: one.watchdog.health.hung_threads == 0)
    with pytest.raises(EngineError, match="fast is broken"):
        one.run()
    assert one.watchdog.health.state == "failed"
    one.failing.clear()
    assert one.run() == ("fast", 0)
    assert one.watchdog.health.state == "running"


def test_trouble_that_comes_back_takes_the_pipeline_that_was_being_made(machine):
    one = machine("fast", made_in=0.3)
    one.failing.add(("fast", 0))
    for _ in range(3):
        with pytest.raises(EngineError):
            one.run()
    one.failing.clear()
    one.run()
    one.failing.add(("fast", 0))
    result, _ = one.until_it_works()
    assert result == ("fast", 1)
    assert len(one.made) == 1


def test_an_engine_that_cannot_be_made_or_hangs_while_it_is_made_gives_way(machine):
    one = machine("fast", "gone", "stuck", "slow")
    one.hanging.add(("fast", 0))
    one.unmakable |= {"fast", "gone"}
    one.slow_to_make.add("stuck")
    result, _ = one.until_it_works()
    assert result[0] == "slow"
    assert one.kinds() == ["hung", "not_made", "not_made", "not_made", "fallback"]
    assert [event.message for event in one.events[1:4]] == [
        "engine fast cannot be made: no fast today",
        "engine gone cannot be made: no gone today",
        "engine stuck was not ready within 0.5 s",
    ]
    assert one.watchdog.health.hung_threads == 2


def test_when_no_engine_is_left_all_are_tried_again_after_growing_pauses(machine):
    one = machine("fast", "slow")
    one.unmakable |= {"fast", "slow"}
    one.hanging.add(("fast", 0))
    with pytest.raises(SupervisionError):
        one.run()
    eventually(lambda: one.watchdog.health.state == "failed")
    assert one.watchdog.health.is_error
    with pytest.raises(SupervisionError) as failed:
        one.run()
    assert failed.value.reason == "engine.failed"
    eventually(lambda: one.kinds().count("none_left") >= 5)
    moments = [moment for moment, kind in zip(one.moments, one.kinds(), strict=False) if kind == "none_left"][:5]
    pauses = [after - before for before, after in pairwise(moments)]
    for pause, least in zip(pauses, [0.05, 0.1, 0.2, 0.2], strict=True):
        assert least <= pause < least + 1.0
    one.unmakable.clear()
    result, _ = one.until_it_works()
    assert result == ("fast", 1)
    assert one.watchdog.health.state == "running"


def test_no_more_threads_are_left_behind_than_agreed(machine):
    one = machine("fast", "slow", patience=Patience(timeout=0.05, relapse=60, hung_threads=2, first_pause=0.01))
    one.hanging |= {"fast", "slow"}
    begin = time.monotonic()
    while time.monotonic() < begin + 0.6:
        with pytest.raises(SupervisionError):
            one.run()
        assert one.watchdog.health.hung_threads <= 2
        time.sleep(0.002)
    health = one.watchdog.health
    assert (health.state, health.is_error) == ("failed", True)
    assert "abandoned threads: 2; restart the process" in health.message
    assert one.kinds()[-1] == "abandoned"
    one.hanging.clear()
    one.released.set()
    one.until_it_works()
    assert one.watchdog.health.state == "running"
    eventually(lambda: one.watchdog.health.hung_threads == 0)


def test_what_changes_while_a_pipeline_is_made_reaches_it(machine):
    settings = {"gain": 1}
    seen = {}

    def make(engine):
        pipeline = {"engine": engine, "gain": settings["gain"]}
        time.sleep(0.2)
        return pipeline

    def adopt(pipeline):
        pipeline["gain"] = settings["gain"]

    watchdog = Watchdog(make("fast"), ["fast"], make, adopt=adopt, patience=QUICK)
    gate = threading.Event()
    with pytest.raises(SupervisionError):
        watchdog.run(lambda _pipeline: gate.wait(LIMIT))

    def change(pipeline):
        settings["gain"] = pipeline["gain"] = 2

    watchdog.apply(change)

    def read(pipeline):
        seen.update(pipeline)
        return True

    def works():
        try:
            return watchdog.run(read)
        except SupervisionError:
            return False

    eventually(works)
    assert seen == {"engine": "fast", "gain": 2}
    gate.set()
    assert watchdog.close(LIMIT)


def test_a_pipeline_that_cannot_be_adopted_gives_way(machine):
    one = machine("fast", "slow")
    one.watchdog._adopt = lambda pipeline: pipeline[0] == "slow" or {}[pipeline]
    one.hanging.add(("fast", 0))
    result, _ = one.until_it_works()
    assert result[0] == "slow"
    assert one.kinds() == ["hung", "not_made", "fallback"]


def test_a_listener_that_raises_stops_nothing(machine, caplog):
    one = machine("fast")

    def listen(event):
        raise ValueError("deaf")

    one.watchdog._on_event = listen
    one.hanging.add(("fast", 0))
    assert one.until_it_works()[0] == ("fast", 1)
    assert "deaf" in caplog.text


def test_closing_ends_all_threads_that_can_end_and_says_whether_all_have(machine):
    before = set(threading.enumerate())
    one = machine("fast", made_in=0.2)
    one.hanging.add("fast")
    with pytest.raises(SupervisionError):
        one.run()
    begin = time.monotonic()
    assert not one.watchdog.close(0.05)
    assert time.monotonic() - begin < LIMIT / 2
    with pytest.raises(SupervisionError) as closed:
        one.run()
    assert closed.value.reason == "engine.closed"
    one.released.set()
    assert one.watchdog.close(LIMIT)
    eventually(lambda: set(threading.enumerate()) <= before)
    assert one.watchdog.current == ("fast", 0)  # what was made while it was closed is not taken
    assert one.adopted == []


def test_close_interrupts_a_pause(machine):
    one = machine("fast", patience=Patience(timeout=0.05, first_pause=LIMIT * 2))
    one.unmakable.add("fast")
    one.hanging.add("fast")
    with pytest.raises(SupervisionError):
        one.run()
    eventually(lambda: "none_left" in one.kinds())
    one.released.set()
    begin = time.monotonic()
    assert one.watchdog.close(LIMIT)
    assert time.monotonic() - begin < 1.0


def test_without_a_timeout_inference_may_take_any_time(machine):
    one = machine("fast", patience=Patience(timeout=0.0))
    one.hanging.add("fast")
    threading.Timer(0.3, one.released.set).start()
    assert one.run() == ("fast", 0)
    assert one.events == []


def test_a_thread_that_waits_for_work_uses_no_processor_time(machine):
    one = machine("fast")
    one.run()
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_watching_costs_little(machine):
    one = machine("fast")
    durations = []
    for _ in range(300):
        begin = time.perf_counter()
        one.run()
        durations.append(time.perf_counter() - begin)
    assert sorted(durations)[150] < 1e-3


def test_nothing_keeps_the_images_of_a_call_that_is_over():
    class Images:
        pass

    watchdog = Watchdog("pipeline", ["fast"], lambda _engine: "pipeline")
    images = Images()
    seen = weakref.ref(images)
    watchdog.run(lambda _pipeline, images=images: images and None)
    del images
    eventually(lambda: seen() is None)
    assert watchdog.close(LIMIT)


def test_nothing_keeps_the_images_of_a_hung_call_once_it_has_returned():
    class Images:
        pass

    watchdog = Watchdog("pipeline", ["fast"], lambda _engine: "pipeline", patience=QUICK)
    images, gate = Images(), threading.Event()
    seen = weakref.ref(images)
    gc.disable()  # what only the collector of cycles frees would stay for long
    try:
        with pytest.raises(SupervisionError):
            watchdog.run(lambda _pipeline, images=images: (gate.wait(LIMIT), images))
        del images
        assert seen() is not None
        gate.set()
        eventually(lambda: seen() is None)
    finally:
        gc.enable()
    assert watchdog.close(LIMIT)


@pytest.mark.parametrize("hangs", [False, True])
def test_an_engine_that_gave_way_is_not_kept_in_memory(hangs):
    class Pipeline:
        pass

    first, gate = Pipeline(), threading.Event()
    gone = weakref.ref(first)
    watchdog = Watchdog(first, ["fast"], lambda _engine: Pipeline(), patience=QUICK)

    def fail(pipeline):
        if pipeline is gone() and hangs:
            gate.wait(LIMIT)
        raise EngineError("broken")

    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(EngineError):
                watchdog.run(fail)
        del first
        eventually(lambda: watchdog.health.state == "running")
        gate.set()
        eventually(lambda: gone() is None)
    finally:
        gc.enable()
    assert watchdog.close(LIMIT)


def test_closed_it_does_not_keep_who_made_it():
    class Owner:
        def __init__(self):
            self.watchdog = Watchdog("p", ["fast"], self.make, adopt=self.adopt, on_event=self.listen, patience=QUICK)

        def make(self, engine):
            return engine

        def adopt(self, pipeline):
            pass

        def listen(self, event):
            pass

    owner = Owner()
    gone = weakref.ref(owner)
    gc.disable()
    try:
        assert owner.watchdog.close(LIMIT)
        del owner
        eventually(lambda: gone() is None)
    finally:
        gc.enable()


def test_calls_end_in_exactly_one_way_while_engines_come_and_go(machine):
    one = machine("a", "b", "c", patience=Patience(timeout=0.004, relapse=0.02, hung_threads=50, first_pause=0.001))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    ends = {"done": 0, "error": 0, "hung": 0, "refused": 0}
    late = []
    number = 0

    def work(pipeline, own):
        if own % 23 == 0:
            time.sleep(0.012)
        elif own % 7 in {0, 1, 2, 3}:
            raise EngineError(own)
        elif own % 11 == 0:
            time.sleep(0.0038)  # at the very limit
        late.append(own)
        return own

    try:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            number += 1
            try:
                assert one.watchdog.run(lambda pipeline, own=number: work(pipeline, own)) == number
                ends["done"] += 1
            except SupervisionError as error:
                ends["hung" if error.reason == "engine.hung" else "refused"] += 1
            except EngineError as error:
                ends["error" if str(number) == str(error) else "of another call"] += 1
    finally:
        sys.setswitchinterval(interval)
    assert sum(ends.values()) == number
    assert min(ends["done"], ends["error"], ends["hung"]) > 0
    eventually(lambda: one.watchdog.health.hung_threads == 0)
    one.until_it_works()


def test_engines_that_can_stand_in_here():
    engines = fallback_engines("auto", "openvino 2026.4 cpu, all threads, fp32 (auto: the fastest on a CPU)")
    assert engines[:2] == ("auto", "onnxruntime")
    assert "openvino" not in engines
    assert fallback_engines("onnxruntime", "onnxruntime 1.31 cpu")[:2] == ("onnxruntime", "openvino")
    assert fallback_engines("tensorrt", "tensorrt 10.3 on a GPU")[:3] == ("tensorrt", "openvino", "onnxruntime")


def test_what_needs_no_engine_has_none_to_fall_back_to():
    assert fallback_engines("auto", "OpenCV") == ("auto",)


def test_an_engine_that_is_not_installed_is_no_fallback(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in {"openvino", "torch"} else name)
    assert fallback_engines("tensorrt", "tensorrt 10.3 on a GPU") == ("tensorrt", "onnxruntime")


def test_a_thread_that_was_ended_does_nothing_more():
    done = []
    thread = EngineThread()
    thread.begin(lambda: done.append(1))
    thread.end()
    thread.begin(lambda: done.append(2))
    assert thread.join(LIMIT)
    assert done == [1]
