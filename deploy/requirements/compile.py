"""Writes the hash-checked requirements of each role: every package that it needs, with its files' SHA-256.

Versions are those of constraints.txt. Run by `make requirements` after a change of pyproject.toml or
constraints.txt; it needs a package index, and the files do not say which one.
`--check` writes nothing and compares names and versions with what is committed, without an index.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ROLES = {
    "coordinator": ("coordinator", "postgres", "stamps"),
    "site": ("site", "dp"),
    "reviewer": ("report", "stamps", "evidence"),
}
CPU_BUILD = "+cpu"  # of torch: the one build that is not the public one; ADR 0051 says why
LISTS = ("build", "tools")
OPTIONS = (
    "--quiet",
    "--generate-hashes",
    "--strip-extras",
    "--allow-unsafe",
    "--no-header",
    "--no-annotate",
    "--no-emit-index" + "-url",  # in pieces: no file of the repository says it
    "--no-emit-trusted-host",
    "--no-emit-find-links",
    "--no-emit-options",
)
_SELF = re.compile(r"fedmedlora\[([a-z,]+)\]")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def requirements_of(extras: tuple[str, ...]) -> list[str]:
    """Return what the project needs with some extras; extras that name others are followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, todo, seen = set(project["dependencies"]), list(extras), set[str]()
    while todo:
        extra = todo.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in project["optional-dependencies"][extra]:
            own = _SELF.fullmatch(requirement)
            if own:
                todo.extend(own[1].split(","))
            else:
                found.add(requirement)
    return sorted(found)


def name_of(requirement: str) -> str:
    """Return a requirement's name, as an index compares it."""
    match = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def pinned(path: Path) -> dict[str, str]:
    """Return the versions that a file pins, by name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = (line.split(" ")[0].partition("==") for line in lines if "==" in line and not line.startswith(" "))
    return {name_of(name): version for name, _, version in pins}


def write(name: str, requirements: list[str], *, constrained: bool) -> None:
    """Have pip-compile write one file."""
    pip_compile = Path(sys.executable).with_name("pip-compile")
    limits = ["--constraint", str(ROOT / "constraints.txt")] if constrained else []
    out = HERE / f"{name}.txt"
    subprocess.run(
        [str(pip_compile), *OPTIONS, *limits, "--output-file", str(out), "-"],
        input="\n".join(requirements),
        text=True,
        check=True,
        cwd=HERE,
    )
    lines = out.read_text(encoding="utf-8").splitlines()
    out.write_text("\n".join(line for line in lines if line and line[0] != "#") + "\n", encoding="utf-8")


def listed(name: str) -> list[str]:
    """Return the lines of a list of requirements that is kept by hand."""
    lines = (HERE / f"{name}.in").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def stale() -> list[str]:
    """Say what is wrong with the committed files: a missing requirement, a version that is not ours."""
    ours = pinned(ROOT / "constraints.txt")
    wrong = []
    needs = {role: requirements_of(extras) for role, extras in ROLES.items()}
    for name, wanted in (needs | {name: listed(name) for name in LISTS}).items():
        have = pinned(HERE / f"{name}.txt")
        wrong += [f"{name}.txt lacks {need}" for need in wanted if name_of(need) not in have]
        wrong += [
            f"{name}.txt: {package} {version} lies on no public index"
            for package, version in have.items()
            if "+" in version and not (package == "torch" and version.endswith(CPU_BUILD))
        ]
        if name != "tools":
            wrong += [
                f"{name}.txt has {package} {version}, constraints.txt {ours.get(package, 'does not name it')}"
                for package, version in have.items()
                if ours.get(package) != version.partition("+")[0]
            ]
    return wrong


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; compare names and versions.")
    parser.add_argument("names", nargs="*", help="Files to write; all when left out.")
    arguments = parser.parse_args()
    if arguments.check:
        wrong = stale()
        sys.stdout.writelines(f"{line}\n" for line in wrong)
        return 1 if wrong else 0
    for role, extras in ROLES.items():
        if not arguments.names or role in arguments.names:
            write(role, requirements_of(extras), constrained=True)
    for name in LISTS:
        if not arguments.names or name in arguments.names:
            write(name, listed(name), constrained=name == "build")
    return 0


if __name__ == "__main__":
    sys.exit(main())
