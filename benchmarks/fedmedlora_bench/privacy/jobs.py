"""The jobs of `bench privacy`: train one adapter under a budget, measure what it can do and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fedmedlora_bench.grid import job_key
from fedmedlora_bench.ie.setting import Setting
from fedmedlora_bench.privacy.options import PrivacyOptions
from fedmedlora_core.privacy_terms import Unit

__all__ = ["ADAPTER_FOLDER", "Measurement", "NoisyScores", "PrivateTraining", "Way"]

Way = Literal["federated", "single"]
ADAPTER_FOLDER = "adapter"
_ASKED = frozenset({"epsilons", "units", "alone", "site_epsilons"})
"""Options that say which jobs a run has, and nothing of what one does: more budgets keep what was trained."""


@dataclass(frozen=True)
class PrivateTraining:
    """Train one adapter.

    Args:
        setting: Hospitals and study, without privacy.
        options: Sizes.
        unit: Whom the budget protects.
        epsilon: The budget; None trains without noise.
        way: The federation, or one hospital by itself.
        site: That hospital.
    """

    setting: Setting
    options: PrivacyOptions
    unit: Unit
    epsilon: float | None
    way: Way = "federated"
    site: str = ""

    @property
    def needs(self) -> tuple[PrivateTraining, ...]:
        """Nothing."""
        return ()

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the adapter, hex."""
        return _key(self, {"unit": self.unit, "epsilon": self.epsilon, "way": self.way, "site": self.site})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        budget = "without noise" if self.epsilon is None else f"epsilon {self.epsilon:g}"
        return f"training {self.site or self.way}, {budget} by {self.unit} (seed {self.seed})"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 40 if self.way == "federated" else 10

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Train, and write the adapter."""
        from fedmedlora_bench.privacy.measuring import train

        adapter, told = train(self)
        adapter.save(draft / ADAPTER_FOLDER)
        return told


@dataclass(frozen=True)
class _OfTraining:
    """A job on the adapter of one training: setting, sizes and seed are the training's."""

    training: PrivateTraining

    @property
    def setting(self) -> Setting:
        """Of the training."""
        return self.training.setting

    @property
    def options(self) -> PrivacyOptions:
        """Of the training."""
        return self.training.options

    @property
    def needs(self) -> Sequence[PrivateTraining]:
        """The training."""
        return (self.training,)

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed


@dataclass(frozen=True)
class Measurement(_OfTraining):
    """Scores of an adapter on every hospital's test, and how well its losses tell members apart.

    Args:
        training: Whose adapter.
    """

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the figures, hex."""
        return _key(self, {"training": self.training.key})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        return self.training.title.replace("training", "measuring", 1)

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 5

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Measure."""
        from fedmedlora_bench.privacy.measuring import measure

        return measure(self, work)


@dataclass(frozen=True)
class NoisyScores(_OfTraining):
    """Scores of an adapter whose last average got a hospital-level budget's noise: an upper bound.

    Args:
        training: Whose adapter.
        site_epsilon: The budget of a hospital over all rounds.
    """

    site_epsilon: float

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the figures, hex."""
        return _key(self, {"training": self.training.key, "site_epsilon": self.site_epsilon})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        return f"noise of epsilon {self.site_epsilon:g} by hospital (seed {self.seed})"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 3

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Measure."""
        from fedmedlora_bench.privacy.measuring import score_noised

        return score_noised(self, work)


def _key(job: PrivateTraining | Measurement | NoisyScores, what: dict[str, Any]) -> str:
    return job_key(
        {
            "job": f"privacy/{type(job).__name__}",
            "setting": job.setting.identity(),
            "options": {name: size for name, size in asdict(job.options).items() if name not in _ASKED},
            "what": what,
        },
    )
