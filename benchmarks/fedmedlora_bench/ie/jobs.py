"""The jobs of a grid: train one adapter, or score one adapter on one site's test notes.

A job is plain data. Its key is a digest of all that decides its result: the setting, what is done, the jobs
it builds on, the code that does it and the versions below that. Two scenarios that need the same adapter name
the same job, and a result that lies in the work folder under that key is that job's result.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata, resources
from typing import Any, Literal, TypeAlias

from fedmedlora_bench.ie.setting import Setting

__all__ = ["Job", "Scoring", "Training", "code_digest"]

Way: TypeAlias = Literal["single", "centralised", "federated", "few"]

_PACKAGES = ("numpy", "peft", "tokenizers", "torch", "transformers")
_CODE = ("fedmedlora_core", "fedmedlora_site", "fedmedlora_bench")
_NO_JOBS = ("report", "secagg", "audit")
"""Parts of the benchmarks that no job here runs."""


@dataclass(frozen=True)
class Training:
    """Train one adapter.

    Args:
        setting: Notes and study.
        way: A single site, all notes pooled, the federation, or a new site with few labels.
        site: The single or the new site.
        notes: Labelled notes of the new site.
        even_steps_notes: With fewer notes than this, as many more epochs.
        start: Whose adapter it starts from; None for the study's first one.
        choose_round: Keep the round with the best validation F1.
    """

    setting: Setting
    way: Way
    site: str = ""
    notes: int = 0
    even_steps_notes: int = 0
    start: Training | None = None
    choose_round: bool = True

    @property
    def needs(self) -> tuple[Training, ...]:
        """Jobs that have to be finished first."""
        return () if self.start is None else (self.start,)

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the adapter, hex."""
        what = {"way": self.way, "site": self.site, "notes": self.notes, "even": self.even_steps_notes}
        start = None if self.start is None else self.start.key
        return _key(self.setting, "training", what | {"start": start, "choose_round": self.choose_round})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        which = self.site if self.way == "single" else self.way
        if self.way == "few":
            which = f"{self.site}, {self.notes} notes, {'adapted' if self.start else 'from scratch'}"
        return f"training {which} (seed {self.setting.seed})"

    @property
    def size(self) -> int:
        """How long it takes, roughly; long jobs start first."""
        return {"federated": 40, "centralised": 40, "single": 20, "few": 10}[self.way]


@dataclass(frozen=True)
class Scoring:
    """Score one adapter on one site's test notes.

    Args:
        setting: Notes and study.
        adapter: Whose adapter; None for the study's first one, which has learned nothing.
        site: Whose test notes.
    """

    setting: Setting
    adapter: Training | None
    site: str

    @property
    def needs(self) -> tuple[Training, ...]:
        """Jobs that have to be finished first."""
        return () if self.adapter is None else (self.adapter,)

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the scores, hex."""
        adapter = None if self.adapter is None else self.adapter.key
        return _key(self.setting, "scoring", {"adapter": adapter, "site": self.site})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        return f"scoring on {self.site} (seed {self.setting.seed})"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 1


Job: TypeAlias = Training | Scoring


def _key(setting: Setting, job: str, what: dict[str, Any]) -> str:
    content = {"job": job, "setting": setting.identity(), "what": what, "under": _versions()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Code and libraries that a result depends on."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    return found | {"python": platform.python_version(), "code": code_digest()}


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Digest, in hex, of the sources that jobs run."""
    digest = hashlib.sha256()
    for package in _CODE:
        root = resources.files(package)
        for name, content in sorted(_sources(root, "")):
            digest.update(f"{package}/{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sources(folder: Any, before: str) -> list[tuple[str, bytes]]:
    """Name and content of the Python and TOML files of a package, those of `_NO_JOBS` left out."""
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in _NO_JOBS:
            found += _sources(entry, f"{before}{entry.name}/")
        elif entry.name.endswith((".py", ".toml")):
            found.append((before + entry.name, entry.read_bytes()))
    return found
