"""What the report of a replay makes of statuses."""

from types import SimpleNamespace

from irvf.cli.report import Summary, _count_pair
from irvf.evaluation.node_timing import OUTCOMES


def status(outcome, gap_ms=2.0):
    return SimpleNamespace(
        outcome=outcome, gap_ms=gap_ms, message="why", stages=["fuse"], stage_ms=[3.0], latency_ms=9.0
    )


def test_every_outcome_is_counted_by_its_name():
    summary = Summary()
    for outcome in range(len(OUTCOMES)):
        _count_pair(status(outcome), summary)
    assert dict(summary.outcomes) == dict.fromkeys(OUTCOMES, 1)
    assert dict(summary.refusals) == {"why": 1}
    assert summary.stage_ms == {"fuse": [3.0], "total": [9.0]}
    assert len(summary.gaps_ms) == 3  # one camera alone is no pair
