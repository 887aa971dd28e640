"""The jobs of a grid: train one adapter, or score one adapter on one site's test notes.

A job is plain data. Its key is a digest of all that decides its result: the setting, what is done, the jobs
it builds on, the code that does it and the versions below that. Two scenarios that need the same adapter name
the same job, and a result that lies in the work folder under that key is that job's result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fedmedlora_bench.grid import job_key
from fedmedlora_bench.ie.setting import Setting

__all__ = ["OTHER_CODE", "Job", "Scoring", "Training"]

Way: TypeAlias = Literal["single", "centralised", "federated", "few"]

OTHER_CODE = ("attacks",)
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

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Train, and write the adapter as a PEFT folder."""
        from fedmedlora_bench.ie.running import train

        return train(self, work, draft)


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

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Score; nothing is left beside the result."""
        from fedmedlora_bench.ie.running import score

        return score(self, work)


Job: TypeAlias = Training | Scoring


def _key(setting: Setting, job: str, what: dict[str, Any]) -> str:
    return job_key({"job": job, "setting": setting.identity(), "what": what}, without=OTHER_CODE)
