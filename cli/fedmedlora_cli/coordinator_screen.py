"""The screen of `coordinator status --watch`."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fedmedlora_cli.live_screen import Facts, alarm_lines, bar, facts_table, size_text, time_text, vital_rows


def screen(facts: Facts) -> Group:
    """Draw where the study stands, who is waited for, bytes and alarms."""
    state = "serving" if facts["running"] else "no process serves"
    title = Text.assemble(
        ("coordinator", "bold"), f"  study {facts['study'] or '(none yet)'}  ", (state, "bold"), "  q ends"
    )
    parts: list[Any] = [title, Text()]
    if facts["study"] is not None and "rounds" in facts:
        parts += [*_progress(facts), Text(), _sites(facts), Text()]
    return Group(*parts, facts_table(_rows(facts)), Text(), *alarm_lines(facts))


def _progress(facts: Facts) -> list[Any]:
    done = facts["closed"] + facts["aborted"] + facts["rolled_back"]
    lasted = f", for {time_text(facts['step_seconds'])}" if "step_seconds" in facts else ""
    needs = (
        f"; needs {facts['threshold']} answers" if facts["step"] not in ("charter", "idle", "closed") else ""
    )
    return [
        Text(f"round {facts['round']} of {facts['rounds']}, step {facts['step']}{lasted}{needs}"),
        bar(facts["rounds"], done),
        Text(
            f"{facts['closed']} closed, {facts['rolled_back']} rolled back, {facts['aborted']} aborted",
            style="dim",
        ),
    ]


def _sites(facts: Facts) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for name in ("site", "there", "this step", "steps without an answer"):
        table.add_column(name)
    away, silent = facts.get("away_seconds") or {}, facts.get("silent_steps") or {}
    for site in facts["members"]:
        there = Text("yes", "green") if site in facts["connected"] else Text("no", "yellow")
        if away.get(site):
            there.append(f", for {time_text(away[site])}")
        awaited = site in facts["waiting_for"]
        step = Text("waited for", "yellow") if awaited else Text("-" if not facts["waiting_for"] else "done")
        table.add_row(site, there, step, str(silent.get(site, 0)))
    return table


def _rows(facts: Facts) -> list[tuple[str, str]]:
    rows = []
    if "entries" in facts:
        size = f", {size_text(facts['log_bytes'])}" if "log_bytes" in facts else ""
        agree = {True: "; head agrees", False: "; HEAD DIFFERS", None: ""}[facts.get("head_agrees")]
        rows.append(("log", f"{facts['entries']} entries{size}{agree}"))
    if facts.get("cosigned_heads"):
        rows.append(
            ("witnesses", f"{facts['cosigned_heads']} heads, up to entry {facts['cosigned_entries']}")
        )
    if "traffic" in facts:
        come, gone = (sum(facts["traffic"][way].values()) for way in ("in", "out"))
        rows.append(("bytes", f"{size_text(come)} in, {size_text(gone)} out since the start"))
    if "blob_bytes" in facts:
        rows.append(("payloads", size_text(facts["blob_bytes"])))
    if "store_write_ms" in facts:
        rows.append(("store", f"{facts['store_write_ms']:.1f} ms a durable write"))
    return rows + vital_rows(facts)
