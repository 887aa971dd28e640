"""Noise inside the masks at one site and in a sum: terms, sensitivity, variance, bounds."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.aggregate_bounds import check_aggregate
from fedmedlora_core.codec import Codec, RingVector, clip_update
from fedmedlora_core.discrete_gaussian import DiscreteGaussian
from fedmedlora_core.errors import AggregateBoundError, CodecError, ConfigError
from fedmedlora_core.site_noise import add_site_noise, sensitivity_of, squares_of, update_digest
from fedmedlora_core.study import Study
from fedmedlora_crypto.secagg.reference import run_round
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream
from fedmedlora_testkit.studies import changed, make_study

VALUES = 20_000
NOISE = {"delta": "1e-5", "epsilon_milli": 8000, "noise_milli": 20_000, "value_bits": 12}


def noisy(n: int = 10, **changes: Any) -> Study:
    """A study of n sites with noise inside the masks."""
    return make_study(
        [f"site-{place:02d}" for place in range(n)],
        dimension=VALUES,
        overrides={
            "aggregation__size_exponent_milli": 0,
            "aggregation__weight_max": 64,
            "secure_aggregation__clip_norm_micro": 2_000_000,
            "secure_aggregation__wire_bits": 32,
            **{f"site_noise__{key}": value for key, value in NOISE.items()},
            **changes,
        },
    )


STUDY = noisy()


def encoded_of(study: Study, place: int, *, noise: bool) -> RingVector:
    """What site `place` sends before its masks."""
    drawn = np.random.default_rng(place).standard_normal(VALUES).astype(np.float32)
    update, _ = clip_update(drawn, clip_value=study.clip_value, clip_norm=study.clip_norm)
    words = Keystream(bytes([place]) * 32).words
    encoded = study.codec().encode(update, weight=64, words=words, extras=(0,))
    if noise:
        add_site_noise(study, encoded, Keystream(bytes([100 + place]) * 32).words)
    return encoded


def signed(total: RingVector) -> np.ndarray:
    return total[:VALUES].view(np.int32).astype(np.int64)


@cache
def sums() -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Masked sums with and without noise, three sites dropped: their values, and who is in them."""
    secure = STUDY.secure_aggregation
    terms = SessionTerms(sid=b"s" * 32, n=10, threshold=secure.threshold, colluding=secure.colluding_sites)
    dropped = {"share": [2], "upload": [5], "survivors": [9]}
    plain = {place: encoded_of(STUDY, place, noise=False) for place in range(1, 11)}
    private = {place: encoded_of(STUDY, place, noise=True) for place in range(1, 11)}
    made = run_round(terms, private, dropped=dropped)
    assert len(made.u3) == 8, "who falls silent after the upload is in the sum"
    clean = np.zeros(VALUES + 2, dtype=np.uint32)
    for place in made.u3:
        clean += plain[place]
    return signed(made.total), signed(clean), made.u3


# -- the charter


def test_a_charter_without_the_table_is_the_charter_it_always_was() -> None:
    study = make_study()
    assert b"site_noise" not in study.canonical_json()
    assert Study.from_canonical_json(STUDY.canonical_json()) == STUDY
    assert STUDY.digest != changed(STUDY, "site_noise", noise_milli=20_001).digest


@pytest.mark.parametrize(
    ("section", "values", "sentence"),
    [
        ("secure_aggregation", {"mode": "none"}, "without masks the coordinator sees each upload"),
        (
            "secure_aggregation",
            {"mode": "ckks", "ckks": {"custody": "shared", "context": "0" * 64}},
            "whoever holds the CKKS key",
        ),
        ("secure_aggregation", {"colluding_sites": 0, "threshold": 6}, "knows its own noise"),
        ("secure_aggregation", {"vote": {"every_rounds": 1}}, "site_noise: a vote's losses"),
        ("aggregation", {"size_exponent_milli": 1000}, "site_noise: weights that follow size"),
        ("aggregation", {"rule": "fedmedlora+", "tau_milli": 1}, "site_noise: weights that follow"),
        ("site_noise", {"noise_milli": 3999}, "greater than or equal to 4000"),
        ("site_noise", {"epsilon_milli": 32_001}, "less than or equal to 32000"),
        ("site_noise", {"delta": "0.1"}, "should match pattern"),
        ("site_noise", {"value_bits": 28}, "noise's tail"),
        ("secure_aggregation", {"wire_bits": 16}, "noise's tail"),
    ],
)
def test_a_charter_whose_noise_would_not_protect_is_refused(
    section: str, values: dict[str, object], sentence: str
) -> None:
    # R4.14.1, R4.14.2
    with pytest.raises(ConfigError, match=sentence):
        changed(STUDY, section, **values)


def test_mode_sa_and_the_table_for_patients_go_with_it() -> None:
    assert noisy(adapter__mode="sa").site_noise is not None
    table = STUDY.model_dump(mode="json", by_alias=True, exclude_none=True)
    table["privacy"] = {
        "unit": "patient", "delta": "1e-5", "epsilon_milli": 8000, "noise_milli": 1000,
        "clip_micro": 1_000_000, "sampling_micro": 10_000, "steps": 10, "batch_units": 8,
    }  # fmt: skip
    both = Study.model_validate(table, strict=False)
    assert both.releases_constants and both.privacy is not None and both.site_noise is not None


def test_head_room_holds_the_tails_of_all_sites() -> None:
    # R4.14.2
    codec = STUDY.codec()
    tail = DiscreteGaussian(20_000).tail
    assert codec.value_bits == 12
    assert 10 * (2**12 + tail) < codec.half
    widest = changed(STUDY, "site_noise", value_bits=27, noise_milli=4000)
    assert widest.codec().head_room_bits < 1
    with pytest.raises(CodecError, match="does not fit 16 bits"):
        Codec(clip=1.0, n=10, weight_max=64, ring_bits=16, noise=codec.noise)


# -- sensitivity


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 1e3), st.integers(3, 20))
def test_no_clipped_update_is_longer_than_the_sensitivity(seed: int, size: float, bits: int) -> None:
    # R4.14.3
    study = changed(STUDY, "site_noise", value_bits=bits)
    drawn = (np.random.default_rng(seed).standard_normal(VALUES) * size).astype(np.float32)
    update, _ = clip_update(drawn, clip_value=study.clip_value, clip_norm=study.clip_norm)
    words = Keystream(seed.to_bytes(32, "big")).words
    encoded = study.codec().encode(update, weight=64, words=words, extras=(0,))
    assert squares_of(encoded[:VALUES], 32) <= sensitivity_of(study) ** 2


def test_rounding_belongs_to_the_sensitivity() -> None:
    """Values far below a quantum are rounded up now and then: an update of nearly nothing becomes long."""
    study = changed(STUDY, "site_noise", value_bits=1)
    clip_in_quanta = 2.0 * 2 / 1.0
    update = np.full(VALUES, 2.0 / math.sqrt(VALUES), dtype=np.float32)
    encoded = study.codec().encode(update, weight=64, words=Keystream(b"w" * 32).words, extras=(0,))
    squares = squares_of(encoded[:VALUES], 32)
    assert squares > (2 * clip_in_quanta) ** 2, "the wrong sensitivity, the clip alone, is passed twice over"
    assert squares <= sensitivity_of(study) ** 2


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40))
def test_squares_are_exact(values: list[int]) -> None:
    ring = np.array(values, dtype=np.int64).astype(np.uint32)
    assert squares_of(ring, 32) == sum(value * value for value in values)
    narrow = [value % (1 << 16) for value in values]
    expected = sum((v - (1 << 16) if v >= 1 << 15 else v) ** 2 for v in narrow)
    assert squares_of(np.array(narrow, dtype=np.uint32), 16) == expected


def test_an_update_beyond_the_sensitivity_gets_no_noise_and_is_not_sent() -> None:
    # R4.14.3
    encoded = np.zeros(VALUES + 2, dtype=np.uint32)
    encoded[0] = sensitivity_of(STUDY) + 1
    before = encoded.copy()
    with pytest.raises(CodecError, match="longer than the noise"):
        add_site_noise(STUDY, encoded, Keystream(b"k" * 32).words)
    assert (encoded == before).all()


# -- in a sum


def planned(noise: np.ndarray, contributors: int) -> bool:
    """Whether noise has at least the variance of so many sites, within what the values can tell."""
    ratio = float((noise.astype(float) ** 2).mean()) / (contributors * 20.0**2)
    return abs(ratio - 1) < 5 * math.sqrt(2 / VALUES)


def test_a_masked_sum_less_the_clean_updates_has_the_planned_variance() -> None:
    # R4.14.5
    total, clean, survivors = sums()
    assert planned(total - clean, len(survivors))
    assert abs((total - clean).mean()) < 5 * 20 * math.sqrt(len(survivors) / VALUES)


def test_noise_that_was_switched_off_would_be_seen() -> None:
    total, clean, survivors = sums()
    assert not planned(clean - clean, len(survivors))
    one_silent = total - DiscreteGaussian(20_000).sample(
        VALUES, Keystream(bytes([100 + survivors[0]]) * 32).words
    )
    assert not planned(one_silent - clean, len(survivors))


def test_colluders_that_take_their_own_noise_off_leave_what_was_planned() -> None:
    # R4.14.6: m = T - c
    total, clean, survivors = sums()
    colluding, threshold = STUDY.secure_aggregation.colluding_sites, STUDY.threshold
    known = [
        DiscreteGaussian(20_000).sample(VALUES, Keystream(bytes([100 + place]) * 32).words)
        for place in survivors[:colluding]
    ]
    left = total - clean - np.sum(known, axis=0)
    assert planned(left, len(survivors) - colluding)
    assert len(survivors) - colluding >= threshold - colluding
    assert (left.astype(float) ** 2).mean() > (threshold - colluding) * 20.0**2 * 0.9


def test_the_error_of_the_average_is_the_computed_one() -> None:
    total, clean, survivors = sums()
    codec, m = STUDY.codec(), len(survivors)
    tail = np.array([64 * m, 0], dtype=np.uint32)
    noisy_mean, _, _ = codec.decode(np.concatenate([total.astype(np.uint32), tail]), extras=1)
    clean_mean, _, _ = codec.decode(np.concatenate([clean.astype(np.uint32), tail]), extras=1)
    error = float(np.sqrt(((noisy_mean - clean_mean).astype(float) ** 2).mean()))
    computed = 20.0 / math.sqrt(m) / 2**12
    assert abs(error / computed - 1) < 5 / math.sqrt(2 * VALUES)


# -- bounds of the aggregate


def test_an_honest_sum_passes_the_bounds_and_only_with_the_noise_in_them() -> None:
    # R4.14.8
    total, clean, survivors = sums()
    codec, m = STUDY.codec(), len(survivors)
    weight = np.array([64 * m, 0], dtype=np.uint32)
    nothing = (total - clean).astype(np.uint32)  # as if every update were zero
    mean, weight_sum, _ = codec.decode(np.concatenate([nothing, weight]), extras=1)
    bounds: dict[str, Any] = {"clip_norm": 0.01, "m": m}
    check_aggregate(mean, weight_sum, codec=codec, **bounds)
    quiet = Codec(clip=1.0, n=10, weight_max=64, ring_bits=32)
    with pytest.raises(AggregateBoundError):
        check_aggregate(mean, weight_sum, codec=quiet, **bounds)


def test_a_sum_beyond_noise_and_clip_is_refused() -> None:
    # R4.14.8
    codec = STUDY.codec()
    assert codec.noise is not None
    mean = np.zeros(VALUES, dtype=np.float32)
    mean[7] = 1.0 + (codec.noise.most_in_a_value(8) + 9) / 8 / 2**12
    with pytest.raises(AggregateBoundError, match="value"):
        check_aggregate(mean, 512, codec=codec, clip_norm=STUDY.clip_norm, m=8)
    mean[:] = 1.0
    with pytest.raises(AggregateBoundError, match="norm"):
        check_aggregate(mean, 512, codec=codec, clip_norm=STUDY.clip_norm, m=8)


# -- what the noise's key follows from


def test_everything_that_decides_an_update_is_in_its_digest() -> None:
    # R4.14.5
    encoded = encoded_of(STUDY, 1, noise=False)
    given_: dict[str, Any] = {"charter": "a" * 64, "round_number": 3, "base": "b" * 64}
    digest = update_digest(encoded, **given_)
    assert update_digest(encoded.copy(), **given_) == digest
    other = encoded.copy()
    other[5] ^= 1
    digests = {
        digest,
        update_digest(other, **given_),
        *(
            update_digest(encoded, **{**given_, key: value})
            for key, value in [("charter", "c" * 64), ("round_number", 4), ("base", "c" * 64)]
        ),
    }
    assert len(digests) == 5
