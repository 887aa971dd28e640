"""Budgets and names that keep the code readable: file length, function length, module names, imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fedmedlora_testkit.repository import ROOT, body_lines, functions, imported_roots, parsed, sources

FILE_LINES = 450
FUNCTION_LINES = 60
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc", "base"}
PERMITTED = {
    ROOT / "fedmedlora_core/fedmedlora_core/learning/base.py"
}  # the base model: a word of the domain
SERIALISERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Modules whose loading runs code from the file; a test that plants such a file says so at the import."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_packages_are_found() -> None:
    assert len(list(sources())) > 100
    assert len(list(sources(tests=True))) > len(list(sources())) + 20


def test_no_file_is_longer_than_its_budget() -> None:
    lines = {_name(p): len(p.read_text(encoding="utf-8").splitlines()) for p in sources(tests=True)}
    assert not {name: count for name, count in lines.items() if count > FILE_LINES}


def test_no_function_is_longer_than_its_budget() -> None:
    lines = {
        f"{_name(p)}::{f.name}": body_lines(f) for p in sources(tests=True) for f in functions(parsed(p))
    }
    assert not {name: count for name, count in lines.items() if count > FUNCTION_LINES}


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {_name(p): {p.stem, *p.relative_to(ROOT).parts[:-1]} for p in sources() if p not in PERMITTED}
    assert not {name: found & VAGUE for name, found in parts.items() if found & VAGUE}


def test_test_files_have_unique_names() -> None:
    names = [p.name for p in sources(tests=True) if p.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def calls(tree: ast.AST) -> set[str]:
    """Dotted names of what a file calls."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_nothing_reads_a_format_that_runs_code() -> None:
    for path in sources():
        tree = parsed(path)
        assert not imported_roots(tree) & SERIALISERS, path
        assert not {"torch.load", "numpy.load", "np.load", "eval", "exec"} & calls(tree), path


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from pickle import loads", "def f():\n  import joblib as j", "import torch, pickle"],
)
def test_an_import_that_runs_code_would_be_found(code: str) -> None:
    assert imported_roots(ast.parse(code)) & SERIALISERS


def test_nothing_trusts_remote_code() -> None:
    for path in sources():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path


WEAK_RANDOMNESS = ("random.", "np.random.", "numpy.random.", "torch.rand")
NO_SECRETS = {
    ROOT / "site/fedmedlora_site/client.py",  # pauses between reconnections
    ROOT / "site/fedmedlora_site/training.py",  # updates of a rehearsal, without a model
}
CLOCKS = ("time.time", "time.monotonic", "datetime.now", "dt.datetime.now", "datetime.utcnow", "date.today")


def uses(tree: ast.AST, prefixes: tuple[str, ...]) -> set[str]:
    """Dotted names in a file that begin with one of the prefixes."""
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {name for name in names if name.startswith(prefixes)}


def _in(*roots: str) -> list[Path]:
    return [path for path in sources() if path.relative_to(ROOT).parts[0] in roots]


def test_secrets_come_from_the_operating_system_alone() -> None:
    for path in _in("crypto", "audit", "protos", "coordinator", "site"):
        if path in NO_SECRETS:
            continue
        assert "random" not in imported_roots(parsed(path)), path
        assert not uses(parsed(path), WEAK_RANDOMNESS), path


def test_pure_packages_read_no_clock() -> None:
    for path in _in("crypto", "audit"):
        assert not uses(parsed(path), CLOCKS), path
        assert "time" not in imported_roots(parsed(path)), path


def test_weak_randomness_and_clocks_would_be_found() -> None:
    assert uses(ast.parse("x = np.random.default_rng(1)"), WEAK_RANDOMNESS)
    assert uses(ast.parse("now = dt.datetime.now(dt.UTC)"), CLOCKS)


def test_verification_raises_and_never_answers() -> None:
    """A forgotten `if` around a bool verifies nothing; a forgotten `try` around an exception stops."""
    found = [
        f"{_name(path)}::{function.name}"
        for path in sources()
        for function in functions(parsed(path))
        if function.name.lstrip("_").startswith(("verify", "check"))
        and function.returns is not None
        and ast.unparse(function.returns) == "bool"
    ]
    assert not found
