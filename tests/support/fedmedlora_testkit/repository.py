"""The repository as the tests in `tests/repo` see it: its files and their Python syntax trees."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCE_ROOTS = (
    "cli", "benchmarks", "coordinator", "site", "protos", "fedmedlora_core", "crypto", "audit",
)  # fmt: skip
GENERATED = ("_pb2.py", "_pb2_grpc.py", "_pb2.pyi", "_pb2_grpc.pyi")


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file of the repository: what git tracks and has on disk, or the whole tree without git."""
    found = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - git of the machine that runs the tests
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if found.returncode == 0:
        names = found.stdout.decode().split("\0")
        return tuple(sorted(ROOT / name for name in names if name and (ROOT / name).is_file()))
    hidden = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(sorted(p for p in hidden if not _is_output(p.relative_to(ROOT))))


def _is_output(path: Path) -> bool:
    return any((part.startswith(".") and part != ".ci") or part == "__pycache__" for part in path.parts)


def sources(*, tests: bool = False) -> Iterator[Path]:
    """Python files of the packages that people wrote, and with `tests` those of the tests."""
    roots = (*SOURCE_ROOTS, "tests") if tests else SOURCE_ROOTS
    for path in tracked_files():
        relative = path.relative_to(ROOT)
        if relative.parts[0] in roots and path.suffix == ".py" and not path.name.endswith(GENERATED):
            yield path


@cache
def parsed(path: Path) -> ast.Module:
    """Syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a tree."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its decorators and its docstring."""
    last = function.end_lineno or function.lineno
    first = function.body[0]
    documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return last - function.lineno + 1 - docstring


def imported_roots(tree: ast.AST) -> set[str]:
    """Top-level names of what a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found
