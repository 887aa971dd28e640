"""A site's noise: in every upload, the same for the same update and no other, on nothing that is constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedmedlora_core.errors import CodecError
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.study import Study
from fedmedlora_crypto.xof import Keystream
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.training import TrainingOutcome
from fedmedlora_site.update import encode_update
from fedmedlora_testkit.rehearsal import small_adapter
from fedmedlora_testkit.studies import changed, make_study

KEYS = Keystore.generate("site-a")
EXTRA = 2
"""Words after the values: the weight and the clipped share."""


def study(**changes: Any) -> Study:
    overrides = {
        "aggregation__size_exponent_milli": 0,
        "secure_aggregation__clip_norm_micro": 1_000_000,
        "secure_aggregation__wire_bits": 32,
        "site_noise__delta": "1e-5",
        "site_noise__epsilon_milli": 8000,
        "site_noise__noise_milli": 40_000,
        "site_noise__value_bits": 20,
    }
    return make_study(dimension=600, overrides={**overrides, **changes})


def encoded(
    made: Study, *, value: float = 0.01, number: int = 1, base: str = "b" * 64, keys: Keystore = KEYS
) -> np.ndarray:
    """What a site keeps for all attempts of a round."""
    update = np.full(600, value, dtype=np.float32)
    vector, _ = encode_update(
        made,
        GlobalStep(made, small_adapter()),
        TrainingOutcome(update, 20, 0.5),
        Keystream(b"r" * 32),
        site="site-a",
        round_number=number,
        base=base,
        noise_key=keys.site_noise_key,
    )
    return vector


def noise_of(vector: np.ndarray, made: Study, value: float = 0.01) -> np.ndarray:
    """The noise in it, up to a quantum of rounding."""
    quanta = value * made.codec().scale * made.aggregation.weight_scale / made.aggregation.weight_max
    return np.asarray(vector[:600].view(np.int32) - round(quanta))


def test_the_same_update_has_the_same_noise_in_every_repetition() -> None:
    # R4.14.5
    made = study()
    first = encoded(made)
    assert (encoded(made) == first).all()
    assert 30 < noise_of(first, made).std() < 50


@pytest.mark.parametrize("other", ["update", "round", "base", "site", "charter"])
def test_anything_else_has_noise_of_its_own(other: str) -> None:
    made = study()
    first = noise_of(encoded(made), made)
    value = 0.01 if other != "update" else 0.0101
    second = noise_of(
        encoded(
            changed(made, "study", title="another") if other == "charter" else made,
            value=value,
            number=2 if other == "round" else 1,
            base=("c" if other == "base" else "b") * 64,
            keys=Keystore.generate("site-a") if other == "site" else KEYS,
        ),
        made,
        value,
    )
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(600)
    assert (first != second).any()


def test_what_is_constant_stays_exact_and_tells_nothing() -> None:
    # R4.14.1, R4.14.5
    vector = encoded(study(), value=0.9)
    assert vector[600:].tolist() == [64, 0], "the constant weight; no clipped share, though all was clipped"
    quiet = changed(study(), "site_noise", noise_milli=4000)
    assert encoded(quiet, value=0.9)[600:].tolist() == [64, 0]


def test_a_study_without_noise_sends_what_it_always_did() -> None:
    made = make_study(dimension=600)
    assert noise_of(encoded(made), made).std() < 2


def test_an_update_that_escaped_the_clip_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    # R4.14.3
    monkeypatch.setattr("fedmedlora_site.update.clip_update", lambda update, **_: (update, 0.0))
    with pytest.raises(CodecError, match="longer than the noise"):
        encoded(study(), value=0.9)


def test_under_the_table_for_patients_the_clipped_share_is_a_constant_too() -> None:
    # R4.13.2
    plain = make_study(dimension=600, overrides={"aggregation__size_exponent_milli": 0})
    table = plain.model_dump(mode="json", by_alias=True, exclude_none=True)
    table["privacy"] = {
        "unit": "patient", "delta": "1e-5", "epsilon_milli": 8000, "noise_milli": 1000,
        "clip_micro": 1_000_000, "sampling_micro": 10_000, "steps": 10, "batch_units": 8,
    }  # fmt: skip
    assert encoded(plain, value=100.0)[601] == 1000
    assert encoded(Study.model_validate(table, strict=False), value=100.0)[601] == 0
