"""Fill the generated parts of the README: the help text and the table of results.

``python -m fedmedlora_bench.readme_table`` writes both between their markers; with ``--check`` it writes
nothing and fails if a part is stale. The results are those of one run of ``fedmedlora demo``, committed
unchanged as ``docs/results/demo.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

README = Path("README.md")
RESULTS = Path("docs/results/demo.json")
SYSTEMS = {
    "zero_shot": "untuned base model",
    "single_site": "one site alone (mean of the sites)",
    "federated": "federated",
    "centralised": "all notes in one place",
}
COLUMNS = {
    "entities, strict": ("ner", "strict_f1"),
    "entities, lenient": ("ner", "lenient_f1"),
    "entities unseen in training, strict": ("ner_unseen", "strict_f1"),
    "relations, gold heads": ("re_gold_heads", "strict_f1"),
    "relations, own heads": ("re", "strict_f1"),
}


def render_results(result: Mapping[str, Any]) -> str:
    """Lay out a demo's `result.json` as Markdown.

    Args:
        result: Content of a `result.json`.

    Returns:
        A table of F1 figures and a paragraph that says what was run.
    """
    systems = result["systems"]
    lines = ["| F1 | " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    for key, name in SYSTEMS.items():
        if key in systems:
            figures = [_figure(systems[key].get(task, {}).get(score)) for task, score in COLUMNS.values()]
            lines.append(f"| {name} | " + " | ".join(figures) + " |")
    return "\n".join([*lines, "", _conditions(result)])


def _conditions(result: Mapping[str, Any]) -> str:
    """Say in one paragraph what the figures are figures of."""
    study, security, sent = result["study"], result["security"], result["communication"]
    audit, versions = result["audit"], result["versions"]
    return (
        f"One run of `fedmedlora demo --full --seed {study['seed']}`: {security['sites']} sites, "
        f"threshold {security['threshold']}, {study['rounds']} rounds, synthetic notes, a base model of "
        f"{result['model']['parameters']:,} parameters and an adapter of "
        f"{result['model']['adapter_parameters']:,} trained values. Means over the sites' test notes. "
        f"Uploaded {sent['bytes_up_per_site_round'] / 1e6:.2f} MB per site and round. "
        f"Log: {audit['verdict']}, {audit['events']} events. "
        f"Python {versions['python']}, torch {versions['torch']}. Source: `{RESULTS}`."
    )


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "-"


def render_help() -> str:
    """Return the console script's real help text as a code block."""
    done = subprocess.run(
        [sys.executable, "-m", "fedmedlora_cli", "--help"],
        env={**os.environ, "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    body = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
    return f"```text\n{body}\n```"


def replace_part(text: str, name: str, body: str) -> str:
    """Put `body` between the markers of one generated part.

    Raises:
        ValueError: The markers are missing or occur twice.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"expected one pair of markers {begin} and {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{body}\n{end}{rest.split(end)[1]}"


def generated(text: str, results: Path) -> str:
    """Return a README with both generated parts as they should be; without results that part is left."""
    text = replace_part(text, "help", render_help())
    if results.is_file():
        result = json.loads(results.read_text(encoding="utf-8"))
        text = replace_part(text, "results", render_results(result))
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the README; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fedmedlora_bench.readme_table", description=__doc__)
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a part is stale")
    arguments = parser.parse_args(argv)
    current = arguments.readme.read_text(encoding="utf-8")
    fresh = generated(current, arguments.results)
    if arguments.check:
        return int(fresh != current)
    arguments.readme.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
