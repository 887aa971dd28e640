"""What a job of a grid is, and the key under which its result lies.

A job is plain data that crosses process boundaries. Its key is a digest of all that decides its result: what
is done on which data, the jobs it builds on, the code that does it and the versions below that.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Job", "code_digest", "job_key", "running_versions"]

_PACKAGES = ("numpy", "peft", "tokenizers", "torch", "transformers")
_CODE = ("fedmedlora_core", "fedmedlora_site", "fedmedlora_bench")
_NO_JOBS = ("report", "secagg", "audit")
"""Parts of the benchmarks that no job runs."""


class Job(Protocol):
    """One piece of work of a grid."""

    @property
    def key(self) -> str:
        """Digest of all that decides the result, hex."""
        ...

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        ...

    @property
    def needs(self) -> Sequence[Job]:
        """Jobs that have to be finished first."""
        ...

    @property
    def size(self) -> int:
        """How long it takes, roughly; long jobs start first."""
        ...

    @property
    def seed(self) -> int:
        """Its seed; of jobs of one size the lower seed starts first."""
        ...

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Do it: read what the needed jobs left in `work`, leave files in `draft`, return the result."""
        ...


def job_key(content: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> str:
    """Digest, in hex, of what decides a job's result, with the code and the libraries below it.

    Args:
        content: JSON values.
        without: Folders of sources that this kind of job does not run, beside those that none does.
    """
    whole = {**content, "under": _versions(without)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def running_versions() -> dict[str, str]:
    """Code and libraries of this process, to be compared with those of another machine."""
    return dict(_versions(()))


@lru_cache(maxsize=4)
def _versions(without: tuple[str, ...]) -> dict[str, str]:
    """Code and libraries that a result depends on."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    return found | {"python": platform.python_version(), "code": code_digest(without)}


@lru_cache(maxsize=4)
def code_digest(without: tuple[str, ...] = ()) -> str:
    """Digest, in hex, of the sources that jobs run."""
    digest = hashlib.sha256()
    for package in _CODE:
        root = resources.files(package)
        for name, content in sorted(_sources(root, "", {*_NO_JOBS, *without})):
            digest.update(f"{package}/{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources(folder: Any, before: str, without: set[str]) -> list[tuple[str, bytes]]:
    """Name and content of the Python and TOML files of a package, those of some folders left out."""
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in without:
            found += _sources(entry, f"{before}{entry.name}/", without)
        elif entry.name.endswith((".py", ".toml")):
            found.append((before + entry.name, entry.read_bytes()))
    return found
