"""A result of `bench attacks` as tables of text: for the terminal and for the page of `bench report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmedlora_bench.extraction_rows import Rows

__all__ = ["attack_conditions", "attack_tables"]

_CHECKS = ("nothing", "clip", "bounds", "vote")


def attack_tables(result: Mapping[str, Any]) -> list[Rows]:
    """One table for each attack that was run."""
    return [read(result[name]) for name, read in _TABLES.items() if name in result]


def attack_conditions(result: Mapping[str, Any]) -> str:
    """What was measured on what, in one line."""
    options, machine = result["settings"]["options"], result["machine"]
    return (
        f"Synthetic clinic, {options['site_count']} hospitals, model {result['model']['name']}, "
        f"seeds {', '.join(map(str, result['seeds']))}; {result['cost']['cpu_seconds']:.0f} s of processor "
        f"time in {result['seconds']['total']:.0f} s at load {machine['load_average']:g} "
        f"on {machine['cpu_count']} cores."
    )


def _exposure(rows: Sequence[Mapping[str, Any]]) -> Rows:
    cells = [
        (
            f"{row['kind']}, {row['repetitions']} notes, {_adapter(row)}",
            f"{row['exposure_bits']:.1f} of {row['most_bits']:.0f}",
            f"{row['chance_bits']:.1f}",
            _percent(row["extracted"]),
        )
        for row in rows
    ]
    return _table("planted secrets", ("exposure, bits", "by chance", "extracted"), cells)


def _membership(rows: Sequence[Mapping[str, Any]]) -> Rows:
    cells = [
        (
            f"{row['attack']}, {_adapter(row)}",
            _interval(row["auc"]),
            _interval(row["tpr_at_1_percent_fpr"], _percent),
            f"{row['members']} / {row['others']}",
        )
        for row in rows
    ]
    return _table("membership of patients", ("AUC", "TPR at 1 % FPR", "members / others"), cells)


def _inversion(rows: Sequence[Mapping[str, Any]]) -> Rows:
    cells = [
        (
            f"{row['mode']}: {row['case']}, {row['sentences']} sentences, {row['sites']} sites",
            _percent(row["recovered"]),
            _percent(row["guesser_recovered"]),
            _interval(row["auc"]),
            f"{row['guesser_auc']:.2f}",
        )
        for row in rows
    ]
    head = ("tokens recovered", "by frequency alone", "AUC", "AUC of frequency")
    return _table("words out of updates (at 90 % precision)", head, cells)


def _poisoning(rows: Sequence[Mapping[str, Any]]) -> Rows:
    cells = [
        (
            f"{row['lie']}, {row['rounds']} rounds",
            f"{row['f1_before']:.3f}",
            *(f"{row[f'f1_{check}']:.3f}{_refused(row[f'refused_{check}'])}" for check in _CHECKS),
        )
        for row in rows
    ]
    head = ("before", "no check", "clip and clamp", "bounds of the sum", "bounds and vote")
    return _table("F1 with one lying site", head, cells)


def _audit(rows: Sequence[Mapping[str, Any]]) -> Rows:
    cells = [
        (
            _adapter(row),
            "-" if row["epsilon_claimed"] is None else f"{row['epsilon_claimed']:.2f}",
            f"{row['epsilon_at_least']:.2f}",
            f"{row['right']} of {row['guesses']} ({row['canaries']})",
        )
        for row in rows
    ]
    head = ("epsilon claimed", "at least (95 %)", "right of guessed (canaries)")
    return _table("bound on epsilon from canaries", head, cells)


def _table(title: str, head: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> Rows:
    return Rows(title, (title, *head), tuple(cells))


def _adapter(row: Mapping[str, Any]) -> str:
    """Which adapter a row is about."""
    private = "" if row["epsilon_target"] is None else f", epsilon {row['epsilon_target']:g}"
    return f"{row['way']}{private}, seed {row['seed']}"


def _refused(rounds: int) -> str:
    return f" ({rounds} refused)" if rounds else ""


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _interval(found: Mapping[str, float], shown: Callable[[float], str] = "{:.2f}".format) -> str:
    return f"{shown(found['value'])} [{shown(found['low'])}, {shown(found['high'])}]"


_TABLES: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], Rows]] = {
    "exposure": _exposure,
    "membership": _membership,
    "inversion": _inversion,
    "poisoning": _poisoning,
    "audit": _audit,
}
