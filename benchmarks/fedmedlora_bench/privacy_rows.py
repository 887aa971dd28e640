"""A result of `bench privacy` as tables of text: for the terminal and for the page of `bench report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora_bench.extraction_rows import Rows

__all__ = ["budget_name", "privacy_conditions", "privacy_tables"]

Row = Mapping[str, Any]


def privacy_tables(result: Row) -> list[Rows]:
    """The budgets, the modes, and noise by hospital."""
    return [_budgets(result["rows"]), _mechanisms(result["rows"]), _modes(result["modes"]), _noise(result)]


def privacy_conditions(result: Row) -> str:
    """What was measured on what, in one line."""
    options, seeds = result["settings"]["options"], ", ".join(map(str, result["seeds"]))
    times = options.get("as_large", 1)
    lent = f"noise as in hospitals and steps {times} times larger: it protects nobody; " if times > 1 else ""
    return (
        f"Synthetic clinic, {options['site_count']} hospitals, model {result['model']['name']} with an "
        f"adapter of {result['model']['adapter_parameters']:,} values, tasks {', '.join(options['tasks'])}; "
        f"{lent}delta {options['delta']}; seeds {seeds}; {result['cost']['cpu_hours']:.2f} CPU-hours in "
        f"{result['cost']['jobs']} jobs."
    )


def budget_name(row: Row) -> str:
    """What names a budget."""
    return "no noise" if row["epsilon"] is None else f"{row['epsilon']:g} by {row['unit']}"


def _budgets(rows: Sequence[Row]) -> Rows:
    clean = next((row["ner"]["f1"] for row in rows if row["epsilon"] is None), 0.0)
    cells = tuple(
        (
            budget_name(row),
            _points(row["ner"]),
            f"{100 * row['ner']['f1'] / clean:.0f} %" if clean else "-",
            "-" if row["ner_alone"] is None else _points(row["ner_alone"]),
            "-" if row["re"] is None else _points(row["re"]),
            _interval(row["membership"]["auc"]),
            _interval(row["membership"]["tpr_at_1_percent_fpr"]),
        )
        for row in rows
    )
    head = (
        "epsilon",
        "entities, federated",
        "of the training without noise",
        "entities, one hospital alone",
        "relations, federated",
        "membership, AUC",
        "membership, TPR at 1 % FPR",
    )
    note = "F1 in points, strict, macro over the hospitals; an AUC of 0.5 is chance."
    return Rows("What a budget costs and protects", head, cells, note)


def _mechanisms(rows: Sequence[Row]) -> Rows:
    cells = tuple(
        (
            budget_name(row),
            "-" if row["epsilon_claimed"] is None else f"{row['epsilon_claimed']:.3f}",
            "-" if row["noise_multiplier"] is None else f"{row['noise_multiplier']:.3f}",
            f"{row['units_of_smallest_site']:,}",
            f"{row['batch']}",
            f"{row['sampling_rate']:.4f}",
            f"{row['rounds']} x {row['steps'] // row['rounds']}",
            f"{row['cpu_seconds']:.0f}",
        )
        for row in rows
    )
    head = (
        "epsilon",
        "claimed",
        "noise multiplier",
        "training units of the smallest hospital",
        "units of a step",
        "rate",
        "rounds x steps",
        "CPU seconds of all hospitals",
    )
    return Rows("What was needed for it", head, cells)


def _modes(rows: Sequence[Row]) -> Rows:
    cells = tuple(
        (
            row["mode"],
            row["coordinator_sees"],
            _inversion(row["inversion"]),
            f"{row['upload_bytes'] / 1e6:.2f}",
            "-" if row["site_seconds"] is None else f"{row['site_seconds']:.3f}",
        )
        for row in rows
    )
    head = (
        "mode",
        "what the coordinator sees",
        "words out of one step (by frequency alone)",
        "MB up, a round",
        "seconds of a site",
    )
    note = (
        "The same adapter comes out of each mode but the one with noise by hospital; F1 is that of the "
        "first table. Seconds are those beside training; noise by hospital adds less than a tenth of them."
    )
    return Rows("What the mode of aggregation changes", head, cells, note)


def _noise(result: Row) -> Rows:
    cells = tuple(
        (f"{row['site_epsilon']:g} by hospital", f"{row['noise_to_clip']:.1f}", _points(row["ner_at_most"]))
        for row in result["noise_by_hospital"]
    )
    head = ("epsilon", "noise of one average, in clips", "entities, at most")
    note = "The noise of one round put into the last average of the training without noise: an upper bound."
    return Rows("Noise inside the masks", head, cells, note)


def _inversion(found: Row | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found['recovered']:.0f} % ({100 * found['by_frequency']:.0f} %)"


def _points(found: Row) -> str:
    spread = f" ± {100 * found['sd']:.1f}" if found["sd"] else ""
    return f"{100 * found['f1']:.1f}{spread}"


def _interval(found: Row) -> str:
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
