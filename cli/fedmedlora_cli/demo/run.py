"""`fedmedlora demo` from start to end: run the federation, compare systems, write result and report."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console

from fedmedlora_cli.demo.comparison import Job, Material, assemble, compare
from fedmedlora_cli.demo.federation import Federation, clear_earlier_run
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_cli.demo.page import write_report
from fedmedlora_cli.demo.parties import DemoError
from fedmedlora_cli.demo.progress import Watcher
from fedmedlora_cli.demo.records import bytes_up_per_round, round_rows
from fedmedlora_cli.demo.result import Measured, build_result
from fedmedlora_cli.demo.table import results_table
from fedmedlora_core.shipped import shipped_base
from fedmedlora_core.study import INITIAL_FOLDER, Study


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Run the demo.

    Args:
        options: What to run.

    Returns:
        The content of `result.json`.

    Raises:
        DemoError: A party failed; the message carries its own last line.
    """
    console = Console()
    clear_earlier_run(options.out)
    started = time.monotonic()
    watcher = Watcher(console, ("coordinator", *options.site_ids))
    federation = Federation(options, watcher.observe)
    console.print(
        f"[bold]fedmedlora demo[/bold]: {options.sites} hospitals and a coordinator on this machine, "
        f"in {options.out}/"
    )
    with watcher.phase(
        "enrolment", "enrolment: keys made at each hospital, certificates from the federation's CA"
    ):
        federation.provision()
    with watcher.phase("import", "notes: each hospital imports its own"):
        federation.import_notes()
    with watcher.phase("agreement", "agreement: pins compared, charter accepted by every hospital"):
        federation.agree()
    study = Study.load(federation.study)
    watcher.rounds = study.training.rounds
    with watcher.phase("training", f"training: {study.training.rounds} rounds under mutual TLS", live=True):
        federation.train()
    with watcher.phase("review", "review: bundle exported, log judged offline"):
        verdict = federation.review()
    systems = _compare(federation, study, watcher)
    watcher.seconds["total"] = time.monotonic() - started
    result = build_result(
        options,
        study,
        measured=Measured(
            base_parameters=count_parameters(),
            adapter_parameters=study.adapter.dimension,
            bytes_up=bytes_up_per_round(federation.bundle, study),
            clipped=federation.clipped(),
            seconds=watcher.seconds,
            spent_milli=None if study.privacy is None else federation.spent(),
        ),
        systems=systems,
        verdict=verdict,
        killed=tuple(federation.killed),
        rounds=round_rows(federation.bundle, study),
    )
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_report(options.out / "report.html", result)
    _print_end(console, result, options)
    return result


def _compare(federation: Federation, study: Study, watcher: Watcher) -> dict[str, Any]:
    """Train the baselines and score every system; the federated adapter is the released one."""
    options = federation.options
    released = federation.coordinator / "released"
    if not released.exists():
        raise DemoError("the study closed without a released adapter: no round was closed (see report.html)")
    material = Material(
        package=federation.study,
        base=shipped_base(),
        notes={s: federation.site(s) / "data" / "notes.jsonl" for s in options.site_ids},
    )
    jobs = [
        Job("zero_shot", material, adapter=federation.study / INITIAL_FOLDER),
        Job("federated", material, adapter=released, own=federation.own_adapters()),
    ]
    if options.baselines:
        jobs += [Job(s, material, trains_on=(s,)) for s in options.site_ids]
    if options.full:
        jobs.append(Job("centralised", material, trains_on=options.site_ids))
    with watcher.phase(
        "comparison", f"comparison: {len(jobs)} systems scored on every hospital's test notes"
    ):
        found = compare(jobs)
    return assemble(found, study, full=options.full)


def count_parameters() -> int:
    """Number of parameters of the shipped base model, read from the safetensors header."""
    from safetensors import safe_open

    total = 0
    with safe_open(shipped_base() / "model.safetensors", framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - a safetensors handle is not a mapping
            size = 1
            for extent in tensors.get_slice(name).get_shape():
                size *= extent
            total += size
    return total


def _print_end(console: Console, result: dict[str, Any], options: DemoOptions) -> None:
    console.print()
    console.print(results_table(result["systems"]))
    audit, sent = result["audit"], result["communication"]
    colour = "green" if audit["verdict"] == "pass" else "red"
    console.print(
        f"log: [{colour}]{audit['verdict']}[/{colour}], {audit['events']} events; "
        f"{sent['bytes_up_per_site_round'] / 1e6:.2f} MB up per hospital and round"
    )
    for number in sent["clipped"]["warned_rounds"]:
        console.print(
            f"[yellow]round {number}: the clip changed {sent['clipped']['by_round_permille'][str(number)]} "
            f"thousandths of the values on average, more than {sent['clipped']['warn_permille']}[/yellow]"
        )
    console.print(f"open {options.out / 'report.html'}; figures in {options.out / 'result.json'}")
