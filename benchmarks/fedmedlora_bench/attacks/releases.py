"""Jobs on what a study releases: train it, and measure what its adapter says about notes and secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fedmedlora_bench.attacks.options import AttackOptions
from fedmedlora_bench.grid import FAILED, job_key, read_result
from fedmedlora_bench.ie.setting import Setting

__all__ = ["Exposures", "Losses", "Release", "Way", "adapter_of"]

Way = Literal["single", "federated"]
ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True)
class Release:
    """Train one adapter on planted notes.

    Args:
        setting: Hospitals and study.
        options: Sizes.
        way: The attacked hospital alone, or the federation.
        draw: Whose coins.
        epsilon: Budget by patient; None trains without privacy.
    """

    setting: Setting
    options: AttackOptions
    way: Way
    draw: int = 0
    epsilon: float | None = None

    @property
    def needs(self) -> tuple[Release, ...]:
        """Nothing."""
        return ()

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the adapter, hex."""
        return _key(self, {"way": self.way, "draw": self.draw, "epsilon": self.epsilon})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        privacy = "" if self.epsilon is None else f", epsilon {self.epsilon:g}"
        return f"training {self.way}, coins {self.draw}{privacy} (seed {self.seed})"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return (40 if self.way == "federated" else 20) * (1 if self.epsilon is None else 2)

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Train, and write the adapter."""
        from fedmedlora_bench.attacks.measuring import release

        adapter, told = release(self)
        adapter.save(draft / ADAPTER_FOLDER)
        return told


@dataclass(frozen=True)
class Losses:
    """Loss of an adapter on every patient, in or out, and on every canary.

    Args:
        setting: Hospitals and study.
        options: Sizes.
        release: Whose adapter; None for the study's first one.
    """

    setting: Setting
    options: AttackOptions
    release: Release | None = None

    @property
    def needs(self) -> Sequence[Release]:
        """The training."""
        return () if self.release is None else (self.release,)

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the losses, hex."""
        return _key(self, {"release": None if self.release is None else self.release.key})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        return f"losses of {_of(self.release)}"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 5

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Measure."""
        from fedmedlora_bench.attacks.measuring import losses

        return losses(self, work)


@dataclass(frozen=True)
class Exposures:
    """Exposure and extraction of the planted secrets under an adapter; arguments as of `Losses`."""

    setting: Setting
    options: AttackOptions
    release: Release | None = None

    @property
    def needs(self) -> Sequence[Release]:
        """The training."""
        return () if self.release is None else (self.release,)

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the exposures, hex."""
        return _key(self, {"release": None if self.release is None else self.release.key})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        return f"secrets under {_of(self.release)}"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 15

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Measure."""
        from fedmedlora_bench.attacks.measuring import exposures

        return exposures(self, work)


def adapter_of(release: Release | None, work: Path) -> Path | None:
    """Folder of the adapter that a job left; None for the study's first one.

    Raises:
        NonFiniteError: That training diverged.
    """
    from fedmedlora_core.errors import NonFiniteError

    if release is None:
        return None
    if FAILED in (found := read_result(release, work)):
        raise NonFiniteError(found[FAILED])
    return work / release.key / ADAPTER_FOLDER


def _of(release: Release | None) -> str:
    return "the untrained adapter" if release is None else release.title.removeprefix("training ")


def _key(job: Release | Losses | Exposures, what: dict[str, Any]) -> str:
    return job_key(
        {
            "job": f"attacks/{type(job).__name__}",
            "setting": job.setting.identity(),
            "options": asdict(job.options),
            "what": what,
        }
    )
