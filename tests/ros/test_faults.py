"""A short run of the fault injection, which at length is `make faults`; see tests/faults/run.py."""

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "faults" / "run.py"
KINDS = ("malformed images", "zero stamps", "engine hangs", "good and bad instructions", "deactivate")


def test_the_node_gets_over_injected_faults_and_accounts_for_them(tmp_path):
    report = tmp_path / "faults.md"
    result = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(RUN), "--minutes", "0.35", "--seed", "3", "--report", str(report), "--only", *KINDS],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "**passed**" in report.read_text("utf-8")
