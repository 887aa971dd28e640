"""What no file of the repository says: build machine paths, package registries, private keys."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from fedmedlora_testkit.repository import ROOT, imported_roots, parsed, sources, tracked_files

TEXT_SUFFIXES = {
    "", ".py", ".pyi", ".md", ".toml", ".txt", ".json", ".jsonl",
    ".proto", ".j2", ".html", ".css", ".yml", ".ann",
}  # fmt: skip
# Written in pieces, so that this file does not say them either.
FORBIDDEN = {
    "a path of a build machine": re.compile(r"(?<![\w.<-])/(work|home|root|Users|mnt|opt/pypi)/" + r"[\w.]"),
    "a folder beside the repository": re.compile(r"\.\./" + r"shared\b"),
    "a package registry": re.compile(
        r"\b(pypi\." + r"org|files\.pythonhosted\." + r"org|test\.pypi\." + r"org|index" + r"-url)\b"
    ),
    "a private key": re.compile(r"-----BEGIN (?:\w+ )?" + r"PRIVATE KEY-----"),
    "a note to nobody": re.compile(r"\b(?:" + "TO" + "DO|FIX" + "ME|" + r"X" + r"XX)\b"),
}
LARGEST_BYTES = 4 << 20


def is_text(path: Path) -> bool:
    """Whether a file is one of the kinds that are read line by line here."""
    return path.suffix in TEXT_SUFFIXES and path.name != "tokenizer.json"


def findings(text: str) -> list[str]:
    """Names of the forbidden things that a text says."""
    return [name for name, pattern in FORBIDDEN.items() if pattern.search(text)]


def test_no_file_says_what_none_may() -> None:
    found = {
        str(path.relative_to(ROOT)): findings(path.read_text(encoding="utf-8"))
        for path in tracked_files()
        if is_text(path)
    }
    assert len(found) > 150
    assert not {name: what for name, what in found.items() if what}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /wor" + "k/main/x.py", "a path of a build machine"),
        ("open('/roo" + "t/.cache')", "a path of a build machine"),
        ("data = '../sha" + "red/data'", "a folder beside the repository"),
        ("https://pypi." + "org/simple", "a package registry"),
        ("-----BEGIN PRIV" + "ATE KEY-----", "a private key"),
    ],
)
def test_each_forbidden_thing_would_be_found(text: str, what: str) -> None:
    assert findings(text) == [what]


def test_no_file_is_larger_than_the_shipped_model_may_be() -> None:
    sizes = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked_files()}
    assert not {name: size for name, size in sizes.items() if size > LARGEST_BYTES}


def test_models_are_shipped_as_safetensors_only() -> None:
    forbidden = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".joblib"}
    assert not [str(p) for p in tracked_files() if p.suffix in forbidden]


PIN = re.compile(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*")


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not PIN.fullmatch(line)] == []
    assert "torch==2.13.0" in pins
    names = [line.partition("==")[0].lower().replace("_", "-") for line in pins]
    assert len(names) == len(set(names))


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
    broken = []
    for path in tracked_files():
        if path.suffix == ".md":
            for target in link.findall(path.read_text(encoding="utf-8")):
                if "://" not in target and not target.startswith("mailto:"):
                    broken += (
                        [] if (path.parent / target).exists() else [f"{path.relative_to(ROOT)}: {target}"]
                    )
    assert not broken


def dependencies(*, dev: bool) -> set[str]:
    """Names of the distributions that the project asks for, with or without those of the dev extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(w for e in extras if dev or e != "dev" for w in extras[e])]
    return {re.split(r"[\[<>=!~ ]", requirement)[0] for requirement in wanted} - {"fedmedlora"}


def test_every_dependency_is_imported() -> None:
    """What no package of ours imports is not asked for; the tools of the dev extra are commands."""
    imported = set()
    for path in sources():
        imported |= imported_roots(parsed(path))
    modules: dict[str, set[str]] = {}
    for module, distributions in importlib.metadata.packages_distributions().items():
        for name in distributions:
            modules.setdefault(name.lower().replace("_", "-"), set()).add(module)
    unused = [
        name
        for name in dependencies(dev=False)
        # An optional one that is not installed here (for a GPU, a cluster) is looked up by its own name.
        if not modules.get(name.lower(), {name.lower().replace("-", "_")}) & imported
    ]
    assert not unused


def test_every_dependency_has_its_reason() -> None:
    names = dependencies(dev=True)
    record = (ROOT / "docs/adr/0012-dependencies.md").read_text(encoding="utf-8")
    rows = {name for row in re.findall(r"^\| ([^|]+) \|", record, re.MULTILINE) for name in row.split(", ")}
    assert not names - rows, "a dependency without a reason"
    assert not rows - names - {"package", "---"}, "a reason without a dependency"
