"""Write docs/RESULTS.md from the committed results: the paper's headlines beside our figures.

``python -m fedmedlora_bench.results_page`` writes it; with ``--check`` it writes nothing and fails if it is
stale. What no committed result holds is said to be not measured; no figure stands in the page that is not in
a file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora_bench.extraction_rows import Rows, conditions, difference, points, sections

__all__ = ["FILES", "main", "render"]

PAGE = Path("docs/RESULTS.md")
RESULTS = Path("docs/results")
FILES = {"open corpora": "ie-corpora.json", "synthetic clinic": "ie-clinic.json"}
"""Column of the table to the result that fills it."""
MORE = {
    "open corpora": {"strategies": "ie-strategies.json", "uneven": "ie-uneven.json"},
    "synthetic clinic": {"sites": "ie-sites.json"},
}
"""Column to scenarios that were measured in a run of their own, of another size."""
SHORTER = {"synthetic clinic": "ie-clinic-15-rounds.json"}
"""Column to the same run with fewer rounds: what lies between federated and centralised follows from them."""
COST_FILE = "cost.json"
DEMO = "tiny"
"""The profile of the demo's model, too small for the claim on bytes."""
NOT_MEASURED = "not measured"

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Headline:
    """One claim of the paper.

    Args:
        claim: What is compared.
        figure: The paper's figure.
        read: Ours, from a result of `bench ie`; raises KeyError where the result has none.
        scenario: The scenario of `bench ie` that measures it; empty where another command does.
        elsewhere: What stands in the table in place of a figure of `bench ie`.
        cost: Ours, from a result of `bench cost`, which has one column.
    """

    claim: str
    figure: str
    read: Callable[[Result], str] | None = None
    scenario: str = ""
    elsewhere: str = ""
    cost: Callable[[Result], str] | None = None


def _gain(result: Result, over: str) -> str:
    """Points of the federated system over another, entities and relations with gold heads."""
    found = result["federated_minus"][over]
    return f"entities {difference(found, 'ner')}, relations {difference(found, 're_gold_heads')}"


def _external(result: Result) -> str:
    table = result["external"]
    best = table["systems"]["federated"]["ner"]["strict_f1"] - table["best_single_site"]["ner"]["strict_f1"]
    mean = difference(table["federated_minus"]["single_site"], "ner")
    return f"entities {mean} over the mean single site, {100 * best:+.1f} over the best one"


def _new_site(result: Result) -> str:
    curve = result["new_site"]["curve"]
    count = "25" if "25" in curve else next(iter(curve))
    found = curve[count]
    adapted = found["adapted"]["ner"]
    return (
        f"{points(adapted)} strict / {points(adapted, 'lenient_f1')} lenient with {count} notes; "
        f"from scratch {points(found['from_scratch']['ner'])} strict"
    )


def _ten_sites(result: Result) -> str:
    found = result["sites"]["10"]["federated_minus_centralised"]
    return f"entities {difference(found, 'ner')}, relations {difference(found, 're_gold_heads')}"


def _weights(result: Result) -> str:
    """Data-aware weights over size weights where the sites annotate different types."""
    found = result["uneven"]["minus_size_weights"]
    shown = [f"{name} {difference(table, 'ner')}" for name, table in found.items()]
    return f"entities, uneven annotation: {', '.join(shown)}"


def _uneven(result: Result) -> str:
    table = result["uneven"]
    systems = table["systems"]
    gain = 100 * (systems["federated"]["ner"]["strict_f1"] - systems["single_site"]["ner"]["strict_f1"])
    against = difference(table["federated_minus_evenly_annotated"], "ner")
    return f"entities {gain:+.1f} over the mean single site; against all types annotated {against}"


def _communication(result: Result) -> str:
    """Bytes of one site and round saved by each named profile, computed from its configuration."""
    sent = [row["communication"] for row in result["profiles"] if row["profile"] != DEMO]
    plain = min(min(found["up_reduction"], found["down_reduction"]) for found in sent)
    checked = min(found["down_with_check_reduction"] for found in sent)
    return (
        f"{-100 * plain:.1f} % at least, up and down apart, for {len(sent)} profiles; down with the chunks "
        f"that a site fetches to check the sum {-100 * checked:.1f} % ({_COST})"
    )


def _memory(result: Result) -> str:
    """Memory to train a named profile, computed; gigabytes of 10^9 bytes."""
    shown = [
        f"{row['profile']} {row['computed']['training_bytes'] / 1e9:.1f} GB to train, "
        f"{row['computed']['inference_bytes_one'] / 1e9:.1f} GB to read one note"
        for row in result["profiles"]
        if row["profile"].startswith("llama")
    ]
    if not shown:
        raise ValueError("no profile of the paper's models")
    return f"computed: {'; '.join(shown)} ({_COST})"


_COST = "[COST.md](COST.md)"

HEADLINES = (
    Headline("zero-shot to federated", "up to +65 F1", lambda r: _gain(r, "zero_shot"), "main"),
    Headline("single site to federated", "about +25 F1", lambda r: _gain(r, "single_site"), "main"),
    Headline(
        "BERT to federated LLM, relations",
        "more than +40 F1",
        scenario="main",
        elsewhere=f"{NOT_MEASURED}: needs the weights of a large model beside those of a BERT",
    ),
    Headline("external cohorts", "+10 to +70 F1", _external, "external"),
    Headline("new site, few labels", "73 strict / 85 lenient", _new_site, "new_site"),
    Headline("10 sites against centralised", "about -2 %", _ten_sites, "sites"),
    Headline("uneven or incomplete annotation", "robust", _uneven, "uneven"),
    Headline("data-aware weights against size weights", "not a headline", _weights, "uneven"),
    Headline("communication against full-model updates", "-98.5 %", cost=_communication),
    Headline("memory", "8B on one 16-24 GB GPU; 1B on a mid-range GPU", cost=_memory),
)
"""The paper's headlines (arXiv 2601.22124), in its order of importance."""


def render(folder: Path) -> str:
    """Return the page.

    Args:
        folder: Folder of the committed results.
    """
    read = {name: _measured(folder, name) for name in FILES}
    headlines = {name: _merged(parts) for name, parts in read.items() if parts}
    costs = _read(folder / COST_FILE)
    parts = [_HEAD, _headline_table(headlines, costs), _COMMANDS]
    for name, file in FILES.items():
        parts.append(f"## {name.capitalize()}\n")
        parts += [_detail(part) for part in read[name]]
        shorter = _read(folder / SHORTER[name]) if name in SHORTER else None
        parts += [] if shorter is None else [_fewer_rounds(shorter, SHORTER[name])]
        if not any(part.scenario is None for part in read[name]):
            parts.append(f"{NOT_MEASURED.capitalize()}: there is no `{RESULTS / file}`.\n")
    return "\n".join(parts)


def _fewer_rounds(result: Result, file: str) -> str:
    """What a shorter run says of federated and centralised training."""
    rounds = result["settings"]["training"]["rounds"]
    gains = {
        "the four hospitals": result["federated_minus"]["centralised"],
        **{f"{n} hospitals": s["federated_minus_centralised"] for n, s in result["sites"].items()},
    }
    told = "; ".join(f"{who} {difference(gain, 'ner')}" for who, gain in gains.items())
    return (
        "How the federation stands to centralised training depends on how long both train. After "
        f"{rounds} rounds, with everything else as here, federated minus centralised in entities was: {told} "
        f"(`{RESULTS / file}`). Both take the profile's rate and pass over every note as often; neither was "
        "tuned.\n"
    )


@dataclass(frozen=True)
class _Measured:
    """A file of a column, and the one scenario that is taken from it; all of them where that is None."""

    file: str
    scenario: str | None
    result: Result


def _measured(folder: Path, column: str) -> list[_Measured]:
    """The files of a column that are there."""
    files: list[tuple[str | None, str]] = [(None, FILES[column]), *MORE[column].items()]
    found = ((file, scenario, _read(folder / file)) for scenario, file in files)
    return [_Measured(file, scenario, result) for file, scenario, result in found if result is not None]


def _merged(parts: Sequence[_Measured]) -> Result:
    """One result with the scenarios of all files."""
    found: dict[str, Any] = {}
    for part in parts:
        found |= part.result if part.scenario is None else {part.scenario: part.result[part.scenario]}
    return found


def _read(file: Path) -> Result | None:
    if not file.is_file():
        return None
    found: Result = json.loads(file.read_text(encoding="utf-8"))
    return found


def _headline_table(results: Mapping[str, Result], costs: Result | None) -> str:
    lines = [_row("claim", "paper", *FILES, "measured by"), _row(*["---"] * (3 + len(FILES)))]
    for headline in HEADLINES:
        command = f"`bench ie --scenario {headline.scenario}`" if headline.scenario else "`bench cost`"
        cells = [headline.elsewhere or _figure(headline.read, results.get(name)) for name in FILES]
        if headline.cost is not None:
            cells = [_figure(headline.cost, costs), *["as left"] * (len(FILES) - 1)]
        lines.append(_row(headline.claim, headline.figure, *cells, command))
    return "\n".join(lines) + "\n"


def _figure(read: Callable[[Result], str] | None, result: Result | None) -> str:
    if result is None or read is None:
        return NOT_MEASURED
    try:
        return read(result)
    except (KeyError, ValueError):  # a scenario that was left out, or no named profile
        return NOT_MEASURED


def _detail(part: _Measured) -> str:
    result = part.result
    command = result["repeat"]["command"]
    parts = [f"{conditions(result)} Source: `{RESULTS / part.file}`.\n"]
    parts += [f"The command:\n\n```text\n{command}\n```\n"] if command else []
    parts += [_table(rows) for rows in sections(result, part.scenario)]
    return "\n".join(parts)


def _table(rows: Rows) -> str:
    lines = [f"### {rows.title}\n", _row(*rows.head), _row("---", *["---:"] * (len(rows.head) - 1))]
    lines += [_row(*row) for row in rows.rows]
    if rows.note:
        lines += ["", rows.note]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


_HEAD = """# Results

The headlines of the paper (arXiv 2601.22124) beside what this project measures on text that anybody can have.
The paper's cohorts are under access control and its models are large: our columns show the order of the
systems, on other notes and smaller models, and no figure of one column can be compared with another's.

Figures are F1 in points, typed and strict unless said otherwise; "entities +3.0 (+1.0 to +5.0)" is a
difference with its 95 % interval. Every figure comes from a file in `docs/results`; this page is generated
from those (`python -m fedmedlora_bench.results_page`).
"""

_COMMANDS = """## With the real cohorts

Whoever holds the cohorts gets the same table with the same command. Each site's notes go through
`fedmedlora site import`, and its `data/notes.jsonl` is laid down as one file:

```text
cohorts/sites/mimic-iii.jsonl  mtsamples.jsonl  utp.jsonl     train
cohorts/outside/i2b2.jsonl     ynhh.jsonl                     external; the last one is the new site
```

```text
fedmedlora bench ie --data cohorts --base Llama-3.1-8B --profile llama-3.1-8b --seeds 3 --no-quick \\
    --scenario all --work grid --json results/ie-llama.json
fedmedlora bench ie --data cohorts --base Bio_ClinicalBERT --profile bio-clinicalbert --seeds 3 --no-quick \\
    --scenario all --work grid --json results/ie-bert.json
fedmedlora bench report results --out report.html --plots plots
```

`--scenario NAME` runs one row of the table. A run that was killed goes on from `--work`; `--jobs N` takes
several processes, `--ray` a cluster.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fedmedlora_bench.results_page", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    arguments = parser.parse_args(argv)
    fresh = render(arguments.results)
    if arguments.check:
        return int(not arguments.page.is_file() or arguments.page.read_text(encoding="utf-8") != fresh)
    arguments.page.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
