"""`study new --strategy` and `site personal` in federations of real processes, with masks and without.

The hospitals rehearse; the initial adapter is a real one of the shipped model, and charter, keys, sums, log
and verdict are real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_cli.demo.federation import Federation
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.strategies import strategy_of
from fedmedlora_core.study import Study
from fedmedlora_testkit.demo_stages import agreed, enrolled, federation_of

pytestmark = pytest.mark.slow


def options_of(out: Path, **options: Any) -> DemoOptions:
    return DemoOptions(out=out, rounds=2, rehearsal=True, **options)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals that have imported their notes and agreed on nothing yet."""
    return enrolled(options_of(tmp_path_factory.mktemp("four") / "enrolled"))


def run(four: Path, out: Path, *strategies: str, **more: Any) -> Federation:
    """Run a short rehearsed federation to its end; the verdict on its log must be a pass."""
    options = options_of(out, strategies=strategies, **more)
    agreed(four, options)
    federation = federation_of(options)
    federation.train()
    verdict = federation.review()
    assert verdict["verdict"] == "pass", verdict
    return federation


@pytest.mark.long
def test_masks_and_none_give_the_identical_adapter_under_strategies(four: Path, tmp_path: Path) -> None:
    names = ("fedmedlora+", "fedprox", "fedadam", "alternating")
    masked = run(four, tmp_path / "masked", *names)
    plain = run(four, tmp_path / "plain", *names, secure="none")
    study = Study.load(masked.study)
    assert [word.split(" ")[0] for word in strategy_of(study).split(", ")] == list(names)
    assert study.adapter.halves is not None
    assert sum(study.adapter.halves) == study.adapter.dimension
    first, second = (Adapter.load(made.coordinator / "released") for made in (masked, plain))
    assert first.digest == second.digest != study.adapter.initial_digest


@pytest.mark.long
def test_every_hospital_of_mode_sa_exports_an_adapter_of_its_own(four: Path, tmp_path: Path) -> None:
    federation = run(four, tmp_path / "run", "sa", "fedavgm")
    released = Adapter.load(federation.coordinator / "released")
    assert all(".lora_A." in name for name in released.trainable)
    assert not any(np.any(values) for name, values in released.tensors.items() if ".lora_B." in name)
    own = {site: Adapter.load(folder) for site, folder in federation.own_adapters().items()}
    assert set(own) == set(federation.options.site_ids)
    assert all(np.array_equal(adapter.vector(), released.vector()) for adapter in own.values())
    assert len({adapter.digest for adapter in own.values()}) == len(own)


def test_a_vote_under_mode_sa_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no two sites share"):
        DemoOptions(out=tmp_path, strategies=("sa",), vote_every=1)
    assert DemoOptions(out=tmp_path, strategies=("sa",)).rounds_between_votes == 0
    with pytest.raises(ConfigError, match="no strategy"):
        DemoOptions(out=tmp_path, strategies=("best",))
