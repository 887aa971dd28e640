"""The screen of `site status --watch`."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from fedmedlora_cli.live_screen import Facts, alarm_lines, bar, facts_table, size_text, time_text, vital_rows

_TENTHS = 10


def screen(facts: Facts) -> Group:
    """Draw round, training, budget, bytes and alarms."""
    state = "running" if facts["running"] else "no agent runs"
    title = Text.assemble(
        (f"site {facts['site']}", "bold"),
        f"  study {facts['study'] or '(none accepted)'}  ",
        (state, "bold"),
        "  q ends",
    )
    parts: list[Any] = [title, Text()]
    if facts["study"] is not None:
        parts += [*_progress(facts), Text()]
    return Group(*parts, facts_table(_rows(facts)), Text(), *alarm_lines(facts))


def _progress(facts: Facts) -> list[Any]:
    number = facts["rounds_closed"] if facts["round"] is None else facts["round"]
    parts: list[Any] = [
        Text(f"round {number} of {facts['rounds']}, step {facts['step']}, {facts['rounds_closed']} closed"),
        bar(facts["rounds"], facts["rounds_closed"]),
    ]
    if facts["running"] and facts["step"] == "train" and facts.get("training_round"):
        tenths = facts["training_tenths"]
        parts += [
            Text(f"training of round {facts['training_round']}: {10 * tenths} %"),
            bar(_TENTHS, tenths),
        ]
    if facts["waiting_for"]:
        parts.append(Text(f"waited for: {', '.join(facts['waiting_for'])}", style="dim"))
    return parts


def _rows(facts: Facts) -> list[tuple[str, str]]:
    there = "connected" if facts["connected"] else "not connected"
    if facts.get("away_seconds"):
        there += f" for {time_text(facts['away_seconds'])}"
    if facts.get("connections", 0) > 1:
        there += f", {facts['connections'] - 1} times connected again"
    rows = [("coordinator", f"{facts['coordinator']}: {there}")]
    if "log_size" in facts:
        rows.append(("log", f"{facts['log_size']} entries"))
    if "traffic" in facts:
        up, down = (sum(facts["traffic"][way].values()) for way in ("up", "down"))
        rows.append(("bytes", f"{size_text(up)} up, {size_text(down)} down since the start"))
    refused = ", ".join(f"{count} {reason}" for reason, count in facts["refused_steps"].items())
    rows.append(("refusals", refused or "none"))
    return rows + _budget_rows(facts) + vital_rows(facts)


def _budget_rows(facts: Facts) -> list[tuple[str, str]]:
    rows = []
    for name, prefix in (("budget", "budget"), ("study's budget", "study_budget")):
        spent, limit = facts[f"{prefix}_spent_milli"], facts[f"{prefix}_limit_milli"]
        if spent is not None or limit is not None:
            shown = "?" if spent is None else f"{spent / 1000:.3f}"
            rows.append(
                (name, f"epsilon {shown} of {'no limit' if limit is None else f'{limit / 1000:.3f}'}")
            )
    return rows if facts["ledger"] != "damaged" else [*rows, ("ledger", "DAMAGED")]
