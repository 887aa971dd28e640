"""What each extra promises to do without: packages are imported in a process where the rest is blocked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedmedlora_testkit.repository import ROOT, sources

HEAVY = ("torch", "transformers", "peft", "tokenizers", "tenseal")
WIRE = ("grpc", "google.protobuf")
STAMPS = "rfc3161_client"
PROMISES = {
    "audit": ("fedmedlora_audit", (*HEAVY, *WIRE, "numpy", "scipy", "sqlalchemy", "safetensors", STAMPS)),
    "crypto": ("fedmedlora_crypto", (*HEAVY, *WIRE, "scipy", "sqlalchemy", "safetensors")),
    "coordinator": ("fedmedlora_coordinator", (*HEAVY, "scipy", "matplotlib", "seqeval", "psycopg", STAMPS)),
}
BLOCKED = """
import importlib, sys
for name in {blocked!r}:
    sys.modules[name] = None
for name in {modules!r}:
    importlib.import_module(name)
"""
COMMAND = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
from fedmedlora_cli.__main__ import main
main({arguments!r})
"""


def modules_of(package: str) -> list[str]:
    """Every module of a package, by dotted name."""
    found = []
    for path in sources():
        parts = list(path.relative_to(ROOT).with_suffix("").parts[1:])
        if parts[0] == package and parts[-1] != "__main__":
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def run(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("extra", PROMISES)
def test_every_module_of_the_package_imports_without_what_its_extra_leaves_out(extra: str) -> None:
    package, blocked = PROMISES[extra]
    modules = modules_of(package)
    assert len(modules) > 5
    done = run(BLOCKED.format(blocked=blocked, modules=modules))
    assert done.returncode == 0, done.stderr


def test_a_blocked_module_would_be_noticed() -> None:
    assert run(BLOCKED.format(blocked=("sqlite3",), modules=["sqlite3"])).returncode != 0


@pytest.mark.parametrize("arguments", [["audit", "--help"], ["audit", "verify", "--help"], ["--help"]])
def test_the_audit_commands_run_with_the_audit_extra_alone(arguments: list[str]) -> None:
    done = run(COMMAND.format(blocked=PROMISES["audit"][1], arguments=arguments))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["init", "invite", "serve", "status", "export"])
def test_the_coordinator_commands_run_without_torch(command: str) -> None:
    done = run(
        COMMAND.format(blocked=PROMISES["coordinator"][1], arguments=["coordinator", command, "--help"])
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["coordinator", "init", "x", "--name", "n", "--address", "h:1", "--enrolment-address", "h:2"],
         "cryptography", "coordinator"),
        (["coordinator", "serve"], "grpc", "coordinator"),
        (["site", "run"], "grpc", "site"),
        (["extract", "note.txt", "--adapter", "x"], "numpy", "site"),
        (["demo", "--out", "x"], "typer", None),
    ],
)  # fmt: skip
def test_a_command_whose_extra_is_missing_names_it(
    arguments: list[str], missing: str, extra: str | None, tmp_path: Path
) -> None:
    done = run(COMMAND.format(blocked=(missing,), arguments=arguments), cwd=tmp_path)
    if extra is None:  # without what every extra brings there is no command line at all
        assert done.returncode == 1
    else:
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: `fedmedlora {arguments[0]}` needs the '{extra}' extra")
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_agent_of_a_site_imports_without_torch() -> None:
    """Torch lives in the trainer's process only; the agent answers the coordinator from a small one."""
    done = run(BLOCKED.format(blocked=HEAVY, modules=["fedmedlora_site.agent", "fedmedlora_site.enrolment"]))
    assert done.returncode == 0, done.stderr
