"""A result of `bench hostile` as rows for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["HEAD", "MOST_RATIO", "conditions", "hostile_rows", "render_hostile"]

MOST_RATIO: Final = 1.2
LEAST_PACE: Final = 0.8
HEAD: Final = (
    "attack",
    "round without",
    "round under it",
    "ratio (95 %)",
    "coordinator a round, without / under",
    "its ratio (95 %)",
    "attacker",
    "refused",
)
WHAT: Final = {
    "slow_tls": "200 TLS handshakes, a byte a second",
    "slow_http2": "50 calls whose headers come a byte a second",
    "garbage": "random bytes and frames",
    "giant": "messages of 1 GiB begun",
    "idle": "1,000 silent connections from 100 addresses",
    "certificates": "none, foreign, posing and expired certificates",
    "flood": "2,000 calls a second, a site in no study",
    "flood_member": "2,000 calls a second, a member's own certificate",
    "together": "all but the last at once",
}


def hostile_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lay a result out, one attack a row under `HEAD`."""
    rows: list[tuple[str, ...]] = []
    for name, found in result["attacks"].items():
        without, under, attacker = found["without"], found["under"], found["attacker"]
        refused = ", ".join(f"{_named(key)} {value:,}" for key, value in under["refused"].items())
        rows.append(
            (
                WHAT[name],
                f"{without['median_seconds']:.2f} s",
                f"{under['median_seconds']:.2f} s",
                _ratio(found["ratio"], found["interval"]),
                f"{without['coordinator_cpu_seconds']:.2f} / {under['coordinator_cpu_seconds']:.2f} s",
                _ratio(found["cpu_ratio"], found["cpu_interval"]),
                _speed(attacker),
                refused or "none counted",
            )
        )
    return rows


def _named(key: str) -> str:
    label, _, value = key.partition("=")
    return f"unread {value}" if label == "method" else value


def _speed(attacker: Mapping[str, float]) -> str:
    connections, calls = (attacker.get(key, 0) / attacker["seconds"] for key in ("tried", "calls"))
    return f"{connections:.1f} connections and {calls:,.0f} calls a second, pace {attacker['pace']:.0%}"


def _ratio(ratio: float, interval: Sequence[float]) -> str:
    return f"{ratio:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def conditions(result: Mapping[str, Any]) -> str:
    """Say what was measured on what, how busy the machine was, and whether the bound held."""
    machine, load, attacks = result["machine"], result["load"], result["attacks"]
    over = [name for name, found in attacks.items() if found["ratio"] > MOST_RATIO]
    slow = [name for name, found in attacks.items() if found["attacker"]["pace"] < LEAST_PACE]
    starved = f" Attackers that were starved of processor time: {', '.join(slow)}." if slow else ""
    rounds = [len(found["under"]["seconds"]) for found in attacks.values()]
    missing = f" Not reached: {', '.join(result['not_reached'])}." if result["not_reached"] else ""
    return (
        f"{result['sites']} sites, {min(rounds)} to {max(rounds)} rounds under each attack and as many in "
        f"between, {result['dimension']:,} values, limits {'on' if result['limits'] else 'off'}. "
        f"{machine['cores']} cores, {machine['cpu']}; load {load['before']:.1f} before and "
        f"{load['after']:.1f} after. Over {MOST_RATIO}: {', '.join(over) or 'none'}.{starved}{missing}"
    )


def render_hostile(result: Mapping[str, Any]) -> str:
    """Write the result as a Markdown table with its conditions below."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(row)} |" for row in hostile_rows(result)]
    return "\n".join([*lines, "", conditions(result)])
