"""What came of all episodes, as Markdown."""

import platform
from collections import Counter, defaultdict


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def by_kind(episodes):
    kinds = defaultdict(list)
    for episode in episodes:
        kinds[episode.name].append(episode)
    rows = []
    for name, those in sorted(kinds.items()):
        injected, accounted = sum(e.injected for e in those), sum(e.accounted for e in those)
        counters = sum((e.counters for e in those), Counter())
        worst = max(e.recovery for e in those)
        verdict = "passed" if not any(e.problems for e in those) else "FAILED"
        shown = "-" if worst == float("inf") else f"{worst * 1e3:.0f}"
        where = ", ".join(f"{counter} {n}" for counter, n in sorted(counters.items())) or "nothing was lost"
        limit = f"{those[0].limit:g} s"
        rows.append((name, len(those), injected, accounted, where, shown, limit, verdict))
    return rows


def markdown(session):
    """Return the report of a session."""
    answers = session.answers
    usage_first, usage_last = session.usages[min(session.warm_episodes, len(session.usages) - 1)], session.usages[-1]
    verdict = "passed" if not session.problems() else "FAILED"
    lines = [
        "# Injected faults",
        "",
        (
            f"{session.duration / 60:.1f} minutes, {len(session.episodes)} episodes, seed {session.seed}, cameras at "
            f"{session.rate:g} Hz (thermal 320 x 240 mono16, RGB 640 x 480), {platform.machine()}, Python "
            f"{platform.python_version()}: **{verdict}**."
        ),
        "",
        (
            "The node runs as a process of its own with its default models. Each episode: streams rest until every "
            "message is accounted for, run again, the fault, then a clean phase, in which output must be correct again."
        ),
        "",
        *table(
            ("fault", "episodes", "injected", "accounted", "counted as", "worst recovery ms", "limit", ""),
            by_kind(session.episodes),
        ),
        "",
        (
            f"Services in clean phases: {len(answers)} calls, slowest {max(answers, default=0) * 1e3:.0f} ms. "
            f"Longest time between two diagnostics: {session.longest_silence(clean=True):.1f} s in clean phases, "
            f"{session.longest_silence(clean=False):.1f} s in all (configure holds the executor). "
            f"Pairs: {session.pairs()}."
        ),
        "",
        *table(
            ("", "after the first episodes", "at the end"),
            [
                ("resident memory, MB", f"{usage_first[0]:.0f}", f"{usage_last[0]:.0f}"),
                ("open files", usage_first[1], usage_last[1]),
                ("threads", usage_first[2], usage_last[2]),
            ],
        ),
        "",
        f"Exit code after SIGTERM: {session.exit_code}. Tracebacks in the log: {session.tracebacks}.",
        "",
    ]
    if session.skipped:
        lines += [f"Not injected, for want of what they are about: {', '.join(sorted(session.skipped))}.", ""]
    notes = [
        (each.number, each.name, each.note, f"{each.recovery * 1e3:.0f}", f"{memory:.0f}", files, threads)
        for each, (memory, files, threads) in zip(session.episodes, session.usages, strict=False)
    ]
    header = ("", "fault", "", "recovered after ms", "resident MB", "files", "threads")
    problems = [f"- {problem}" for problem in session.problems()]
    if problems:
        lines += ["## Problems", "", *problems, ""]
    return "\n".join([*lines, "## Episodes", "", *table(header, notes), ""])
