"""A result of `bench audit` as rows for people: what was measured, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_SECONDS = 10.0
MOST_OVER_SIGNATURES = 1.5
MOST_MEMORY = 300_000_000
MOST_BUNDLE = 10_000_000
MOST_SHARE = 0.03
WANTED_EVENTS = 7_600
"""What the wanted bundle size was set for: it bounds the bytes of an event, of which this log has more."""


def audit_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Lay a result out: what, the figure, and the bound it is held against (empty where there is none)."""
    write, events, memory = result["write"], result["events"], result["peak_above_base_bytes"]
    one, share = result["one_process"], MOST_BUNDLE / WANTED_EVENTS
    packed = result["packed"]
    packed_memory = packed["peak_above_base_bytes"]
    rows = [
        ("events, signatures", f"{events:,}, {result['signatures']:,}", ""),
        ("signatures alone", _both(result, "signature"), ""),
        ("`audit verify`", _both(result, "verify"), f"< {MOST_SECONDS:.0f} s on two cores"),
        ("· over the signatures", f"{result['verify_over_signatures']:.2f}", f"≤ {MOST_OVER_SIGNATURES}"),
        ("`audit verify`, one process", _both(one, "verify"), ""),
        ("· over the signatures", f"{one['verify_over_signatures']:.2f}", ""),
        ("· over the signatures, processor time", f"{one['verify_over_signatures_cpu']:.2f}", ""),
        ("memory above the base", f"{memory / 1e6:.0f} MB", f"< {MOST_MEMORY / 1e6:.0f} MB"),
        ("· of a worker, all in all", f"{result['worker_peak_bytes'] / 1e6:.0f} MB", ""),
        ("bundle, packed in one file", f"{packed['bytes'] / 1e6:.2f} MB", f"< {MOST_BUNDLE / 1e6:.0f} MB"),
        ("· `audit verify` of it, processors", _seconds(packed["verify_cpu_seconds"]), ""),
        ("· over the folder's, same run", f"{packed['verify_over_folder_cpu']:.2f}", ""),
        ("· memory above the base", f"{packed_memory / 1e6:.0f} MB", f"< {MOST_MEMORY / 1e6:.0f} MB"),
        ("bundle, as a folder", f"{result['bundle_bytes'] / 1e6:.2f} MB", ""),
        ("· of an event", f"{result['bundle_bytes_per_event']:.0f} B", f"< {share:.0f} B"),
        ("an event at its site: sign", _millis(write["site_sign_seconds_per_event"]), ""),
        ("an event at the coordinator", _millis(write["coordinator_seconds_per_event"]), ""),
        ("an event in a site's mirror", _millis(write["site_mirror_seconds_per_event"]), ""),
        ("events in a round", f"{write['events_per_round']:.0f}", ""),
        ("a round's log at the coordinator", _seconds(write["coordinator_seconds_per_round"]), ""),
        ("a round's log at a site", _seconds(write["site_seconds_per_round"]), ""),
    ]
    if demo := result.get("demo"):
        rows.append(("a round of the demo", _seconds(demo["seconds_per_round"]), ""))
        rows.append(("· the log in it, at most", f"{demo['log_share']:.1%}", f"< {MOST_SHARE:.0%}"))
    return rows


def conditions(result: Mapping[str, Any]) -> str:
    """Say what was measured on what, and how busy the machine was."""
    machine, load = result["machine"], result["load"]
    return (
        f"{result['rounds']} rounds, {result['sites']} sites, every one a witness; {result['workers']} "
        f"processes, medians of {result['repeats']} passes in turn. {machine['cores']} cores, "
        f"{machine['cpu']}; load {load['before']:.1f} before and {load['after']:.1f} after."
    )


def _both(figures: Mapping[str, Any], what: str) -> str:
    wall, cpu = figures[f"{what}_seconds"], figures[f"{what}_cpu_seconds"]
    return f"{wall:.2f} s, processors {cpu:.2f} s"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _millis(value: float) -> str:
    return f"{value * 1000:.2f} ms"
