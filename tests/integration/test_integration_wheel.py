"""What `pip install` makes of the sources, with a C compiler and without one."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOOPS = "fedmedlora_core/arithmetic/_compiled"


def wheel(out: Path, **environment: str) -> Path:
    """Build a wheel from the sources, with the builders that are installed here."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(out), str(ROOT)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def loops_in(built: Path) -> list[str]:
    with zipfile.ZipFile(built) as archive:
        return [name for name in archive.namelist() if LOOPS in name and not name.endswith(".pyi")]


def test_a_wheel_has_the_compiled_loops_and_says_for_which_machine(tmp_path: Path) -> None:
    built = wheel(tmp_path)
    (name,) = loops_in(built)
    assert name.endswith((".so", ".pyd")), "the module, and not its source"
    assert not built.name.endswith("none-any.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path / "installed")
    code = "from fedmedlora_core import arithmetic as a; print(a.__file__, a.loops is a.compiled)"
    path = os.pathsep.join([str(tmp_path / "installed"), *filter(None, sys.path)])
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split()[1] == "True"
    assert said.stdout.startswith(str(tmp_path / "installed"))


def test_without_a_compiler_the_wheel_is_for_every_machine(tmp_path: Path) -> None:
    built = wheel(tmp_path, CC=str(tmp_path / "no-compiler"))
    assert loops_in(built) == []
    assert built.name.endswith("none-any.whl")
