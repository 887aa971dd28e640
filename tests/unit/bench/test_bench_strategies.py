"""Every strategy in the in-process federation: real training, real encoding, real masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_bench.bench_study import BenchStudy, make_bench_study
from fedmedlora_bench.federation import federate
from fedmedlora_bench.systems import split_sites
from fedmedlora_core.adapter_parts import with_personal
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import Note
from fedmedlora_core.splits import Splits
from fedmedlora_core.strategies import STRATEGIES, overrides_of
from fedmedlora_testkit.models import make_notes, write_encoder

SITES = ("site-a", "site-b", "site-c", "site-d")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def notes_of(number: int) -> list[Note]:
    """Notes of one site, of which the first does not annotate negations."""
    notes = make_notes(24)[number * 4 : number * 4 + 12]
    return [note.restricted_to(["problem", "drug", "strength"]) for note in notes] if number == 0 else notes


def made(encoder: Path, *strategies: str, mode: str = "masks") -> tuple[BenchStudy, dict[str, Splits]]:
    profile = Profile.load("encoder").override(
        **{
            "adapter__rank": 4,
            "adapter__targets": ["query", "value"],
            "training__rounds": 2,
            "training__max_tokens": 128,
            "splits__validation_percent": 30,
            "secure_aggregation__mode": mode,
            "secure_aggregation__wire_bits": 32,
            **overrides_of(strategies),
        }
    )
    notes = {site: notes_of(number) for number, site in enumerate(SITES)}
    study = make_bench_study(profile, notes, encoder, seed=3)
    return study, split_sites(study.study, notes)


def run(encoder: Path, *strategies: str, mode: str = "masks") -> tuple[BenchStudy, Any, dict[str, Any]]:
    bench, splits = made(encoder, *strategies, mode=mode)
    own: dict[str, Any] = {}
    learner = learner_for(bench.study, encoder)
    adapter, rounds = federate(bench.study, learner, bench.initial, splits, personal=own)
    assert len(rounds) == 2
    assert all(figures.update_norm > 0 for figures in rounds)
    return bench, adapter, own


@pytest.mark.slow
def test_every_strategy_leads_somewhere_else(encoder: Path) -> None:
    found = {name: run(encoder, name) for name in STRATEGIES}
    for name, (bench, adapter, own) in found.items():
        assert adapter.digest != bench.initial.digest, name
        assert set(own) == (set(SITES) if name == "sa" else set())
    digests = {name: adapter.digest for name, (_, adapter, _) in found.items()}
    assert digests.pop("ffa") == digests["fedmedlora"], "both are the profile's own settings"
    assert len(set(digests.values())) == len(digests)
    bench, adapter, own = found["sa"]
    assert with_personal(adapter, own["site-a"]).vector().tobytes() == adapter.vector().tobytes()
    assert len({part.tobytes() for part in own.values()}) == len(SITES), "and B is each site's own"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fedadam", "alternating", "sa", "types"])
def test_masks_and_none_give_the_same_adapter(encoder: Path, strategy: str) -> None:
    masked, plain = (run(encoder, strategy, mode=mode) for mode in ("masks", "none"))
    # The two charters differ in their mode, and so do the rounding streams that derive from them.
    # What a rounding of the first round makes of the second depends on the machine's arithmetic.
    start, apart = masked[0].initial.vector(), masked[1].vector() - plain[1].vector()
    assert np.abs(apart).max() < 0.01 * np.abs(masked[1].vector() - start).max()
