"""Runs the fusion node under random faults: python tests/faults/run.py --minutes 10 --seed 1 --report out/faults.md.

Exit code 0 only if the node lives, every fault is accounted for, and correct output came again in time after each.
"""

import argparse
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import machine_faults
import message_faults  # noqa: F401
import stream_faults  # noqa: F401
from cameras import NAMESPACE, STREAMS
from faults import FAULTS, Trial
from node_under_test import REPOSITORY, START_TIMEOUT, NoAnswerError, NodeDiedError, NodeUnderTest
from report import markdown

from irvf_msgs.msg import FusionStatus

TOPICS = {stream: f"{NAMESPACE}/{stream}/image_raw" for stream in STREAMS}
MODELS = ("realtime", "detector", "segmentation", "saliency", "sentence-encoder")
ANSWER_LIMIT = 1.0
FILES_LIMIT = 10
SILENCE_LIMIT = 2.5
"""Seconds between two diagnostics, which come each second."""
ENGINE_TIMEOUT = 2.0
OPTIONAL = {"watchdog.timeout": ENGINE_TIMEOUT, "pairing.alone": "both"}
"""Parameters that are set where the node has them."""


def lossless(depth=200):
    """Nothing is to get lost between camera and node, so that every message can be accounted for."""
    overrides = {}
    for topic in TOPICS.values():
        overrides[f"qos_overrides.{topic}.subscription.reliability"] = "reliable"
        overrides[f"qos_overrides.{topic}.subscription.depth"] = depth
    return overrides


@dataclass
class Episode:
    """What came of one fault."""

    number: int
    name: str
    limit: float
    injected: int
    accounted: int
    counters: Counter
    recovery: float
    problems: list
    note: str


class Session:
    """A node, and the faults that it goes through."""

    warm_episodes = 8

    def __init__(self, arguments, folder):
        self.seed, self.rate, self.folder = arguments.seed, arguments.rate, folder
        self.rng = random.Random(arguments.seed)  # noqa: S311 - chance, not secrets
        self.only = arguments.only
        self.episodes, self.answers, self.usages, self.skipped = [], [], [], set()
        self.general = []
        self.disturbed = []  # begin and end of each fault
        self.duration, self.exit_code, self.tracebacks = 0.0, None, 0
        for name in MODELS:
            shutil.copytree(REPOSITORY / "models" / name, folder / "models" / name)
        environment = {"IRVF_MODEL_PATH": str(folder / "models"), "ROS_LOG_DIR": str(folder / "log")}
        self.node = NodeUnderTest(folder, lossless(), arguments.rate, environment)

    def start(self):
        self.node.wait_for(lambda: self.node.diagnostics, START_TIMEOUT)
        parameters = self.node.parameters()
        for name, value in OPTIONAL.items():
            if name in parameters:
                self.node.set_parameters(**{name: value})
        if not self.node.bring_up():
            raise NodeDiedError(f"the node cannot be brought up: {self.node.tail()}")
        self.faults = [each for each in FAULTS if not each.needs or each.needs in parameters]
        self.skipped = {each.name for each in FAULTS} - {each.name for each in self.faults}
        if self.only:
            self.faults = [each for each in self.faults if any(text in each.name for text in self.only)]
        self.node.wait_for(self.node.cameras.is_heard, 10.0)
        self.node.cameras.resume()
        if self.node.wait_for(lambda: self.node.correct_since(0), 10.0) is None:
            raise NodeDiedError(f"no correct output at the start: {self.node.tail()}")
        self.disturbed.append((0.0, time.monotonic()))  # configure holds the executor

    def run(self, seconds):
        self.start()
        begin, number, deck = time.monotonic(), 0, []
        while time.monotonic() - begin < seconds:
            if not deck:  # each kind once before any comes again
                deck = self.rng.sample(self.faults, len(self.faults))
            kind = deck.pop()
            if sum(each.name == kind.name for each in self.episodes) >= kind.most:
                continue
            number += 1
            episode = self.episode(number, kind)
            self.episodes.append(episode)
            self.usages.append(self.node.usage())
            verdict = "; ".join(episode.problems) or f"recovered after {episode.recovery * 1e3:.0f} ms"
            print(f"{time.monotonic() - begin:6.1f} s  {episode.name}: {verdict} ({episode.note})", flush=True)
        self.duration = time.monotonic() - begin

    def episode(self, number, kind):
        before, problems = self.rest()
        trial = Trial(self.node, self.rng, self.rng.uniform(1.0, 4.0))
        begun = time.monotonic()
        try:
            injected = kind.inject(trial)
        finally:
            self.node.cameras.fault = None
        ended = time.monotonic()
        arrival = self.node.wait_for(lambda: self.node.correct_since(ended), max(kind.limit, 8.0))
        recovery = math.inf if arrival is None else arrival - ended
        if recovery > kind.limit:
            problems.append(f"correct output again after {recovery:.2f} s, not {kind.limit:g} s")
        problems += injected.problems + self.check_clean()
        self.disturbed.append((begun, ended))
        after, unsettled = self.rest(lossless=injected.is_lossless, before=before)
        problems += unsettled
        accounted, wrong = self.account(injected, before, after)
        named = {*injected.expected, *injected.at_least, *injected.together}
        grown = after.counters() - before.counters()
        return Episode(
            number,
            kind.name,
            kind.limit,
            injected.count,
            accounted,
            Counter({name: n for name, n in grown.items() if (name in named if named else is_a_loss(name))}),
            recovery,
            problems + wrong,
            injected.note,
        )

    def check_clean(self):
        """Say what the node does not do in a clean phase."""
        problems = []
        try:
            _, took = self.node.get_parameter()
            answer, took_too = self.node.set_instruction("detection")
        except NoAnswerError as error:
            return [str(error)]
        self.answers += [took, took_too]
        if max(took, took_too) > ANSWER_LIMIT:
            problems.append(f"a service took {max(took, took_too):.2f} s in a clean phase")
        asked = time.monotonic()

        def follows():
            return any(
                status.instruction_sequence == answer.sequence and status.outcome == FusionStatus.FUSED
                for status in list(self.node.statuses.values())[-50:]
            )

        if not answer.accepted:
            problems.append(f"'detection' refused: {answer.message}")
        elif not self.node.wait_for(follows, 4.0) or time.monotonic() - asked > ANSWER_LIMIT:
            took = time.monotonic() - asked
            problems.append(
                f"the first pair under instruction {answer.sequence} came after {took:.1f} s, or not at all"
            )
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            self.node.check_alive()
            time.sleep(0.05)
        wrong = [problem for arrival, _, problem in self.node.images if arrival > end - 1.2 and problem]
        if wrong:
            problems.append(f"{len(wrong)} wrong images in the clean phase, the last: {wrong[-1]}")
        return problems

    def rest(self, *, lossless=False, before=None):
        """Let the streams rest until every message is accounted for; return the diagnostics, and what is wrong."""
        cameras = self.node.cameras
        cameras.pause()
        paused = time.monotonic()
        sent = Counter(cameras.sent)

        def settled():
            last = self.node.diagnostics[-1]
            counts = {stream: last.counts(topic) for stream, topic in TOPICS.items()}
            if last.arrival < paused + 0.5 or any(count["waiting"] for count in counts.values()):
                return None
            if lossless and any(counts[s]["received"] - before.received[s] < sent[s] - before.sent[s] for s in STREAMS):
                return None
            rest = Rest.of(last, sent, counts)
            return None if rest.unfinished() else rest

        rest = self.node.wait_for(settled, 5.0)
        problems = []
        if rest is None:
            last = self.node.diagnostics[-1]
            counts = {stream: last.counts(topic) for stream, topic in TOPICS.items()}
            rest = Rest.of(last, sent, counts)
            problems.append(f"not settled {time.monotonic() - last.arrival:.1f} s after the last diagnostics")
        for stream in STREAMS if lossless else ():
            lost = sent[stream] - before.sent[stream] - (rest.received[stream] - before.received[stream])
            if lost:
                problems.append(f"{lost} {stream} messages were sent and not received")
        if rest.unfinished():
            problems.append(rest.unfinished())
        cameras.resume()
        resumed = time.monotonic()
        if self.node.wait_for(lambda: self.node.correct_since(resumed), 5.0) is None:
            problems.append("no correct output 5 s after the streams have rested")
        problems += self.node.problems
        self.node.problems = []
        return rest, problems

    @staticmethod
    def account(injected, before, after):
        """Compare counters with what was injected; return how many faults they show and what does not agree."""
        grown = after.counters() - before.counters()
        problems = []
        for counter, number in injected.expected.items():
            if grown[counter] != number:
                problems.append(f"{counter}: {grown[counter]} counted, {number} injected")
        for counter, number in injected.at_least.items():
            if grown[counter] < number:
                problems.append(f"{counter}: {grown[counter]} counted, at least {number} injected")
        counted = {name: n for name, n in {**injected.at_least, **injected.expected}.items() if n}
        accounted = sum(min(grown[counter], number) for counter, number in counted.items())
        if injected.together:
            return min(injected.count, sum(grown[counter] for counter in injected.together)), problems
        return (accounted if counted else injected.count), problems

    def longest_silence(self, *, clean):
        arrivals = [each.arrival for each in self.node.diagnostics]
        gaps = list(pairwise(arrivals))
        if clean:
            gaps = [(a, b) for a, b in gaps if not any(a <= end and begin <= b for begin, end in self.disturbed)]
        return max((second - first for first, second in gaps), default=0.0)

    def pairs(self):
        events = self.node.diagnostics[-1].events() if self.node.diagnostics else {}
        return ", ".join(f"{name[6:]} {n}" for name, n in sorted(events.items()) if name.startswith("pairs."))

    def problems(self):
        found = [f"{e.number}. {e.name} ({e.note}): {problem}" for e in self.episodes for problem in e.problems]
        if self.longest_silence(clean=True) > SILENCE_LIMIT:
            found.append(f"diagnostics were silent for {self.longest_silence(clean=True):.1f} s in a clean phase")
        return found + self.general

    def close(self):
        self.exit_code = self.node.close()
        if self.exit_code != 0:
            self.general.append(f"exit code {self.exit_code} after SIGTERM")
        first, last = self.usages[0][1] if self.usages else 0, self.usages[-1][1] if self.usages else 0
        if last > first + FILES_LIMIT:
            self.general.append(f"{last - first} files more are open than after the first episode")
        self.tracebacks = self.node.log.read_text(errors="replace").count("Traceback (most recent call last)")


def is_a_loss(counter):
    return any(part in counter for part in ("dropped.", "refused.", "superseded", "discarded", "engine."))


@dataclass
class Rest:
    """What the node has counted while the streams rest."""

    arrival: float
    sent: Counter
    counts: dict
    events: Counter
    sequence: int

    @classmethod
    def of(cls, diagnostics, sent, counts):
        sequence = diagnostics.values.get("instruction", {}).get("sequence", "0")
        return cls(diagnostics.arrival, sent, counts, diagnostics.events(), int(sequence))

    @property
    def received(self):
        return {stream: counts["received"] for stream, counts in self.counts.items()}

    def unfinished(self):
        """Say which pairs have no fate; empty when all have one."""
        paired = [counts["paired"] for counts in self.counts.values()]
        alone = sum(counts["alone"] for counts in self.counts.values())
        fates = Counter({name: n for name, n in self.events.items() if name.startswith(("pairs.", "frames."))})
        if len(set(paired)) == 1 and paired[0] + alone == fates.total():
            return ""
        return f"{paired} images are paired, {alone} go alone, but their fates are {dict(fates)}"

    def counters(self):
        streams = {f"{stream} {name}": n for stream, counts in self.counts.items() for name, n in counts.items()}
        return Counter({**streams, **self.events, "instruction.accepted": self.sequence})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=15.0, help="of the cameras in Hz")
    parser.add_argument("--report", type=Path, default=Path("out/faults.md"))
    parser.add_argument("--only", nargs="*", default=[], help="kinds whose name contains one of these")
    parser.add_argument("--log", type=Path, help="keep the node's log here")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    profile = str(REPOSITORY / "config" / "fast_dds.xml")
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        os.environ.setdefault(name, profile)
    folder = Path(tempfile.mkdtemp(prefix="irvf_faults_"))
    disks = machine_faults.SmallDisks(folder)
    try:
        session = Session(arguments, folder)
        try:
            session.run(60 * arguments.minutes)
        except (NodeDiedError, NoAnswerError) as error:
            session.general.append(f"the run ended early: {error}")
        finally:
            session.close()
        if arguments.log:
            shutil.copy(session.node.log, arguments.log)
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(markdown(session) if session.usages else "\n".join(session.general), "utf-8")
    finally:
        disks.close()
        shutil.rmtree(folder, ignore_errors=True)
    problems = session.problems()
    print(f"{len(session.episodes)} episodes; report in {arguments.report}")
    for problem in problems:
        print(f"PROBLEM {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
