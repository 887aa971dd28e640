"""The command tree: each role's commands are imported only when they are asked for.

`fedmedlora audit verify` must run where neither grpc nor torch is installed, and `fedmedlora --help` must
answer at once, so only the group named on the command line is imported; the others appear with their
one-line help. A command whose extra is missing says which one to install.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer


@dataclass(frozen=True)
class Entry:
    """One name of the top level: its module, help line, extra, and whether it is a group or a command."""

    module: str
    help: str
    extra: str
    group: bool = True


ENTRIES = {
    "demo": Entry("demo_command", "Run a whole study on this machine, for real.", "bench", group=False),
    "coordinator": Entry("coordinator_commands", "Run the coordinating centre.", "coordinator"),
    "site": Entry("site_commands", "Take part as a hospital.", "site"),
    "study": Entry("study_commands", "Write, check and show a study.", "site"),
    "extract": Entry("extraction_command", "Extract entities and relations from notes.", "site", group=False),
    "evaluate": Entry("evaluation_command", "Score an adapter on annotated notes.", "site", group=False),
    "audit": Entry("audit_commands", "Judge a study from files alone.", "audit"),
    "bench": Entry("bench_commands", "Measure: extraction, cost, attacks.", "bench"),
}

ROOT_HELP = """Hospitals train one LoRA adapter for clinical information extraction together.

No hospital's notes, adapter, exact size or score becomes visible to anyone else, and a transparency log
lets an outsider judge every exchange from files alone.

Example: fedmedlora demo --out demo-run

Exit codes: 0 done, 1 the answer is no, 2 could not run. `fedmedlora --debug …` shows the trace of an error.
"""


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Build the command tree with the one group that `arguments` name imported.

    Args:
        arguments: Command-line arguments without the program's name.

    Returns:
        A typer application.

    Raises:
        SystemExit: Code 2 when the named command's extra is not installed.
    """
    app = typer.Typer(
        help=ROOT_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )
    app.callback(help=ROOT_HELP)(_root)
    wanted = _named(arguments)
    for name, entry in ENTRIES.items():
        if name == wanted:
            _mount(app, name, entry)
        elif entry.group:
            app.add_typer(typer.Typer(help=entry.help), name=name)
        else:
            app.command(name, help=entry.help)(_not_loaded)
    return app


def _mount(app: typer.Typer, name: str, entry: Entry) -> None:
    """Import one entry's module and add it to the tree."""
    try:
        module = importlib.import_module(f"fedmedlora_cli.{entry.module}")
    except ModuleNotFoundError as exc:
        sentence = missing_extra([name], exc)
        if sentence is None:
            raise
        typer.echo(f"error: {sentence}", err=True)
        raise SystemExit(2) from None
    if entry.group:
        app.add_typer(module.app, name=name, help=entry.help)
    else:
        app.command(name)(module.command)


def missing_extra(arguments: Sequence[str], exc: ModuleNotFoundError) -> str | None:
    """Say which extra a command lacks; None when a module of our own is missing, which is a bug.

    Args:
        arguments: Command-line arguments without the program's name.
        exc: What its import raised.
    """
    entry = ENTRIES.get(_named(arguments) or "")
    if entry is None or (exc.name or "").startswith("fedmedlora"):
        return None
    return (
        f"`fedmedlora {_named(arguments)}` needs the '{entry.extra}' extra ({exc.name} is not installed): "
        f"pip install 'fedmedlora[{entry.extra}]'"
    )


def _named(arguments: Sequence[str]) -> str | None:
    """Name of the top level that the arguments ask for."""
    return next((a for a in arguments if not a.startswith("-")), None)


def _show_version(wanted: bool) -> None:
    """Print the release, and the wire's protocol where the packages that speak it are installed."""
    if not wanted:
        return
    try:
        release = version("fedmedlora")
    except PackageNotFoundError:
        release = "0+source"
    protocol = ""
    try:
        ours = importlib.import_module("fedmedlora_protos.versions").ours()
        protocol = f", protocol {ours.spoken}"
    except ModuleNotFoundError:  # a reviewer's installation speaks to nobody
        pass
    typer.echo(f"fedmedlora {release}{protocol}")
    raise typer.Exit()


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the release and exit."),
    ] = False,
) -> None:
    """Take the options that stand before a command's name."""


def _not_loaded() -> None:
    """Stand for a command that was not asked for; only its help line is ever shown."""
