"""The job that inverts updates of one seed and one adapter mode, case by case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmedlora_bench.attacks.options import AttackOptions
from fedmedlora_bench.grid import job_key
from fedmedlora_bench.ie.setting import Setting

if TYPE_CHECKING:
    from fedmedlora_bench.attacks.inversion_scene import Scene

__all__ = ["Inversion"]

_NOISE_MULTIPLIERS = (0.1, 1.0)
_DRAWS = 8
"""Sessions with masks of their own, and steps with noise of their own: the intervals are over them."""


@dataclass(frozen=True)
class Inversion:
    """Invert the updates of one hospital.

    Args:
        setting: Hospitals and study.
        options: Sizes.
        mode: "ffa" (only B trains) or "ab" (both).
    """

    setting: Setting
    options: AttackOptions
    mode: str

    @property
    def needs(self) -> tuple[()]:
        """Nothing."""
        return ()

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the figures, hex."""
        content = {"job": "attacks/Inversion", "mode": self.mode, "options": asdict(self.options)}
        return job_key(content | {"setting": self.setting.identity()})

    @property
    def title(self) -> str:
        """What a person reads while it runs."""
        return f"inverting updates, {self.mode} (seed {self.seed})"

    @property
    def size(self) -> int:
        """How long it takes, roughly."""
        return 15

    @property
    def seed(self) -> int:
        """The setting's."""
        return self.setting.seed

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Attack each case."""
        from fedmedlora_bench.attacks.inversion_scene import Scene

        scene = Scene.of(self.setting.with_profile(adapter__mode=self.mode), self.options)
        found = [row for batch in self.options.batches for row in _step_rows(scene, batch)]
        found += _sum_rows(scene, self.options.batches[0], self.options.federations)
        return {"cases": [*found, *_round_rows(scene)]}


def _step_rows(scene: Scene, batch: int) -> Iterator[dict[str, Any]]:
    """One step of one site: plain, masked, and with the noise of a private step."""
    plain = scene.plain_step(batch, scene.sites[0])
    others = [scene.plain_step(batch, site) for site in scene.others]
    yield scene.row("one step, plain", batch, plain, others, rounded=True)
    sessions = [
        (scene.session(batch, scene.sites[:3], number)[0], scene.uniform(batch, number))
        for number in range(_DRAWS)
    ]
    yield scene.draws_row("one step, masked upload", batch, sessions, rounded=True)
    for multiplier in _NOISE_MULTIPLIERS:
        noisy = [
            [scene.private_step(batch, multiplier, s, n) for s in scene.sites[:3]] for n in range(_DRAWS)
        ]
        draws = [(own, others) for own, *others in noisy]
        yield scene.draws_row(f"one step, private, noise {multiplier:g}", batch, draws, rounded=False)


def _sum_rows(scene: Scene, batch: int, federations: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """One step of several sites, of which only the sum is opened."""
    for count in federations:
        total = scene.opened_sum(batch, scene.sites[:count])
        yield scene.row("one step, sum", batch, total, [], sites=count, rounded=True)


def _round_rows(scene: Scene) -> Iterator[dict[str, Any]]:
    """Rounds as this software trains them: AdamW, of one step and of a whole epoch."""
    for sentences in (1, 2):
        update, rate = scene.trained(sentences, scene.sites[0])
        yield scene.row("round of one step, plain", sentences, update, [], adam_rate=rate)
    own, *others = (scene.trained(None, site)[0] for site in scene.sites[:3])
    yield scene.row("whole round, plain", None, own, others)
