"""What `deploy` names exists: commands, options, users, folders; and it keeps what it promises to shut."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fedmedlora_cli.app import build_app
from fedmedlora_testkit.repository import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CONTAINERS = sorted((DEPLOY / "container").glob("Containerfile.*"))
SHUT = {
    "NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes", "ProtectHome": "yes",
    "CapabilityBoundingSet": "", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "LimitCORE": "0",
    "Restart": "on-failure", "RestartPreventExitStatus": "1", "UMask": "0077", "StateDirectoryMode": "0700",
}  # fmt: skip


def unit(path: Path) -> dict[str, list[str]]:
    """Settings of a unit, each with all its values in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, separator, value = line.partition("=")
            assert separator, f"{path.name}: '{line}' is no setting"
            found.setdefault(key, []).append(value)
    return found


def problem(words: list[str]) -> str | None:
    """Say why the program would not take a command line; None when it would."""
    command: Any = typer.main.get_command(build_app(words))
    for at, word in enumerate(words):
        if not hasattr(command, "commands"):
            options = {name for parameter in command.params for name in parameter.opts}
            unknown = [w for w in words[at:] if w.startswith("-") and w not in options]
            return f"{words}: no option {unknown[0]}" if unknown else None
        if word not in command.commands:
            return f"{words}: no command {word}"
        command = command.commands[word]
    return None


def need(words: list[str]) -> None:
    assert problem(words) is None, problem(words)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_exists_as_its_own_user_in_its_own_folder(path: Path) -> None:
    settings = unit(path)
    program, *words = shlex.split(settings["ExecStart"][0])
    assert program == "/opt/fedmedlora/bin/fedmedlora"
    need(words)
    (user,) = settings["User"]
    assert settings["StateDirectory"] == settings["Group"] == [user] == [path.stem]
    assert words[words.index("--dir") + 1] == settings["WorkingDirectory"][0] == f"/var/lib/{user}"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_shut_where_it_can_be(path: Path) -> None:
    settings = unit(path)
    assert {key: settings[key][-1] for key in SHUT} == SHUT
    assert settings["SystemCallFilter"][0] == "@system-service"
    assert {"TimeoutStopSec", "LimitNOFILE", "RestrictNamespaces", "PrivateDevices"} <= set(settings)


def test_only_the_site_may_write_what_it_executes() -> None:
    named = {path.name: unit(path) for path in UNITS}
    assert named["fedmedlora-coordinator.service"]["MemoryDenyWriteExecute"] == ["yes"]
    assert "MemoryDenyWriteExecute" not in named["fedmedlora-site.service"]
    assert "oneDNN" in (ROOT / "docs/OPERATIONS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.name)
def test_a_container_runs_commands_that_exist_as_nobody_in_particular(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    last = text.rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER 6501[01]:6501[01]$", last, re.MULTILINE)
    assert json.loads(last.split("\nENTRYPOINT ")[1].splitlines()[0]) == ["fedmedlora"]
    need(json.loads(re.findall(r"^CMD (.*)$", last, re.MULTILINE)[-1]))
    need(json.loads(re.findall(r"HEALTHCHECK .*CMD (.*)$", last, re.MULTILINE)[0])[1:])
    for role in re.findall(r"deploy/requirements/\w+\.txt", text):
        assert (ROOT / role).is_file()
    installs = [line for line in text.splitlines() if '"install"' in line]
    assert installs
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert "no command" in (problem(["coordinator", "dance"]) or "")
    assert "no option" in (problem(["coordinator", "serve", "--loud"]) or "")


def test_the_coordinators_image_has_no_torch_and_no_file_names_an_index() -> None:
    files = {path.stem: path.read_text(encoding="utf-8") for path in (DEPLOY / "requirements").glob("*.txt")}
    assert {"coordinator", "site", "build"} <= set(files)
    assert re.search(r"^torch==", files["site"], re.MULTILINE)
    heavy = r"^(torch|transformers|peft|tokenizers|opacus|nvidia-[\w-]+)=="
    assert not re.search(heavy, files["coordinator"], re.MULTILINE)
    assert not [name for name, text in files.items() if re.search(r"https?://|file:|index-" + "url", text)]
    for name, text in files.items():
        pins = len(re.findall(r"^\S+==", text, re.MULTILINE))
        hashed = len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", text, re.MULTILINE))
        assert pins == hashed > 0, name


def test_one_pin_alone_is_on_no_public_index_and_operations_says_so() -> None:
    """An installation by hash finds a local version such as 1.0+cpu only where somebody has put it."""
    local = []
    for path in (DEPLOY / "requirements").glob("*.txt"):
        local += re.findall(r"^(\S+)==\S*?(\+\S*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert local == [("torch", "+cpu")]
    assert "`--find-links`" in (ROOT / "docs/OPERATIONS.md").read_text(encoding="utf-8")


def test_nothing_of_a_partys_folder_gets_into_an_image() -> None:
    lines = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # everything is left out but what is named
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() == lines
