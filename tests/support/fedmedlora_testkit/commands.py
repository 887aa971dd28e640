"""The commands that the console script has, and their options."""

from __future__ import annotations

import click
import typer.main

from fedmedlora_cli.app import ENTRIES, build_app


def commands() -> dict[str, frozenset[str]]:
    """Every visible command in full, such as "audit verify", with its options."""
    found = {}
    for name, entry in ENTRIES.items():
        root = typer.main.get_command(build_app([name]))
        command = root.commands[name]  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {}) if entry.group else {"": command}
        for sub, leaf in inner.items():
            if not leaf.hidden:
                found[f"{name} {sub}".strip()] = options(leaf)
    return found


def options(command: click.Command) -> frozenset[str]:
    """The long options of one command."""
    return frozenset(text for parameter in command.params for text in parameter.opts if text.startswith("--"))
