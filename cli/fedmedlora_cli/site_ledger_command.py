"""`fedmedlora site ledger`: what trainings have cost this hospital's patients, and what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from fedmedlora_cli.output import FolderOption, JsonOption, write_json


def command(
    folder: FolderOption = Path(),
    tight: Annotated[
        bool, typer.Option(help="Show the tighter PLD figure beside; it is never charged, and takes seconds.")
    ] = True,
    json_file: JsonOption = None,
) -> None:
    """Show the privacy budget: what is spent, what is left, what the next round would cost.

    Example: fedmedlora site ledger --dir st-mary
    """
    from fedmedlora_site.ledger_report import report

    found = report(folder, tight=tight)
    write_json(json_file, found)
    if json_file is None:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    """Print the site's budget as a bar, a row for each study, and the next round."""
    console = Console()
    for line in _budget_lines(found["budget"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    limit, spent = found["budget"]["epsilon_milli"], found["budget"]["spent_milli"]
    if limit is not None and spent is not None:
        console.print(ProgressBar(total=limit, completed=min(spent, limit), width=60))
        console.print()
    if found["studies"]:
        console.print(_table(found["studies"]))
    for line in _next_lines(found["next"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    where = f"{found['charges']} charge(s) in {found['ledger']}"
    console.print(where, markup=False, highlight=False, soft_wrap=True)


def _budget_lines(budget: dict[str, Any]) -> list[str]:
    unit, delta = budget["unit"], budget["delta"]
    if budget["mixed_units"]:
        return [f"no figure by {unit}: the ledger holds charges by another unit, which cannot be converted"]
    tight = "" if budget["spent_tight"] is None else f" (PLD: {budget['spent_tight']:.3f}, not charged)"
    spent = f"spent: epsilon {_figure(budget['spent_milli'])}{tight}, by {unit}, at delta {delta}"
    if budget["epsilon_milli"] is None:
        return [spent, "budget: none; each study's own is all that holds (policy.toml, [privacy])"]
    left = _figure(budget["left_milli"])
    return [spent, f"budget: epsilon {_figure(budget['epsilon_milli'])}, left {left}"]


def _table(studies: list[dict[str, Any]]) -> Table:
    table = Table(title="studies, each alone", title_justify="left")
    for name in ("study", "site", "unit", "delta"):
        table.add_column(name, no_wrap=True)
    for name in ("rounds", "epsilon", "PLD"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last", no_wrap=True)
    for row in studies:
        tight = "" if row["spent_tight"] is None else f"{row['spent_tight']:.3f}"
        again = row["charges"] - row["rounds"]
        rounds = f"{row['rounds']}+{again}" if again else str(row["rounds"])  # with trainings begun anew
        names = (escape(row[name]) for name in ("study", "site", "unit", "delta"))
        table.add_row(*names, rounds, _figure(row["spent_milli"]), tight, row["last"][:10])
    return table


def _next_lines(following: dict[str, Any] | None) -> list[str]:
    if following is None:
        return ["no study with differential privacy is accepted here"]
    study = f"study '{following['study']}'"
    spent = f"{_figure(following['spent_milli'])} of {_figure(following['budget_milli'])} spent"
    if following["costs_milli"] is None:
        return [f"{study}: {spent}; every planned round is charged"]
    cost = f"the next round costs {_figure(following['costs_milli'])}"
    if following["costs_of_budget_milli"] is not None:
        cost += f", of this site's budget {_figure(following['costs_of_budget_milli'])}"
    lines = [f"{study}: {spent}; {cost}; {following['rounds_left']} planned round(s) left"]
    return lines if following["refused"] is None else [*lines, f"it would be refused: {following['refused']}"]


def _figure(milli: int) -> str:
    return f"{milli / 1000:.3f}"
