"""Weights of label types: the rows of a type are the mean of those who annotate it, exactly and masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import halves_of
from fedmedlora_core.aggregate_bounds import check_aggregate
from fedmedlora_core.errors import AggregateBoundError, CodecError, ConfigError
from fedmedlora_core.global_step import GlobalStep, SiteWeights, weights_of
from fedmedlora_core.study import Study
from fedmedlora_core.type_weights import TypeRange
from fedmedlora_crypto.secagg.reference import run_round
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream
from fedmedlora_testkit.studies import make_study

Floats = np.ndarray[Any, Any]
IDS = ("site-a", "site-b", "site-c", "site-d")
TYPES = ("problem", "drug", "severity")
WIDTH = 5
EVERYBODY = dict.fromkeys(IDS, TYPES)
UNEVEN = {**EVERYBODY, "site-d": ("problem", "drug")}
"""site-d does not annotate severity; three others do, which is the threshold of four members."""


def adapter() -> Adapter:
    shapes = {
        "a.lora_A.weight": (2, 4),
        "a.lora_B.weight": (6, 2),
        "classifier.bias": (7,),
        "classifier.weight": (7, WIDTH),
    }
    tensors = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    return Adapter(tensors, tuple(sorted(shapes)))


def study(annotated: Any = UNEVEN, *, mode: str = "ab", **overrides: Any) -> Study:
    initial = adapter()
    return make_study(
        IDS,
        initial_digest=initial.digest,
        dimension=initial.dimension,
        halves=halves_of(initial, mode),
        kind="token_classification",
        annotated=annotated,
        overrides={
            "adapter__mode": mode,
            "labels__entities": ["problem", "drug"],
            "labels__modifiers": ["severity"],
            "aggregation__type_weights": "mentions",
            "secure_aggregation__wire_bits": 32,
            **overrides,
        },
    )


def words(_start: int, count: int) -> Floats:
    return np.zeros(count, dtype=np.uint32)


def updates(made: Study, number: int = 1) -> dict[str, Floats]:
    drawn = np.random.default_rng(number)
    return {site: drawn.normal(0, 0.1, made.update_dimension(number)).astype(np.float32) for site in IDS}


MENTIONS = {
    "site-a": {"problem": 100, "drug": 3, "severity": 40},
    "site-b": {"problem": 90, "drug": 50, "severity": 2},
    "site-c": {"problem": 10, "severity": 9},
    "site-d": {"problem": 30, "drug": 20, "severity": 999},
}
NOTES = {"site-a": 64, "site-b": 32, "site-c": 128, "site-d": 16}


def all_weights(made: Study) -> dict[str, SiteWeights]:
    return {
        site: weights_of(made, site, n_notes=NOTES[site], loss=0.5, mentions=MENTIONS[site]) for site in IDS
    }


def encoded(made: Study, number: int = 1) -> dict[str, Floats]:
    rule, weights = GlobalStep(made, adapter()), all_weights(made)
    return {
        site: rule.encode(update, weights[site], 0, words, round_number=number)
        for site, update in updates(made, number).items()
    }


def added(vectors: Mapping[str, Floats]) -> Floats:
    """The sum in the ring."""
    total: Floats = np.zeros_like(vectors[IDS[0]])
    for vector in vectors.values():
        total += vector
    return total


def mean_of(values: Mapping[str, Floats], weights: Mapping[str, int]) -> Floats:
    """The weighted mean in float64."""
    total: Floats = np.zeros(values[IDS[0]].shape)
    for site in IDS:
        total += values[site].astype(np.float64) * weights[site]
    return total / sum(weights.values())


def advanced(made: Study, total: Floats, number: int = 1) -> Floats:
    rule = GlobalStep(made, adapter())
    base = adapter()
    vector: Floats = rule.advance(base.segments(), None, total, round_number=number, m=4).vector
    return vector


def test_a_site_declares_a_step_of_the_ladder_for_each_type_it_annotates() -> None:
    # R4.12.2
    found = all_weights(study())
    assert found["site-a"].types == (64 * 128, 64 * 4, 64 * 32)
    assert found["site-c"].types == (64 * 8, 64, 64 * 8), "no mention of a drug is still a look at it"
    assert found["site-d"].types[2] == 0, "by the charter's word, whatever its notes hold"
    assert "64" not in repr(found["site-a"])
    exact = all_weights(study(aggregation__weights="exact"))
    assert exact["site-a"].types == (6400, 192, 2560)


def test_the_rows_of_a_type_are_the_mean_of_the_sites_that_annotate_it() -> None:
    # R4.12.3
    made = study()
    total = added(encoded(made))
    found, weights, given = advanced(made, total), all_weights(made), updates(made)
    shared = mean_of(given, {site: weights[site].weight for site in IDS})
    bound = made.codec().error_bound(weight_sum=64 * 4, m=4)
    rows = GlobalStep(made, adapter()).types(1)
    assert rows[0] == TypeRange(20 + 1, 20 + 3, 0)
    assert rows[3] == TypeRange(27 + WIDTH, 27 + 3 * WIDTH, 0)
    of_a_type = np.zeros(made.adapter.dimension, dtype=bool)
    for first, last, place in rows:
        own = {s: weights[s].types[place] for s in IDS}
        mean = mean_of({site: update[first:last] for site, update in given.items()}, own)
        assert float(np.abs(found[first:last] - mean).max()) < bound
        assert float(np.abs(found[first:last] - shared[first:last]).max()) > 100 * bound
        of_a_type[first:last] = True
    assert of_a_type.sum() == 6 * (WIDTH + 1)
    assert float(np.abs(found - shared)[~of_a_type].max()) < bound


def test_a_site_that_does_not_annotate_a_type_moves_none_of_its_rows() -> None:
    """Whatever it sends there - weight decay moves them - its words are zero."""
    made = study()
    rule = GlobalStep(made, adapter())
    for first, last, place in rule.types(1):
        found = encoded(made)["site-d"][first:last]
        assert bool(np.any(found)) is (TYPES[place] != "severity")


def test_masks_and_none_give_the_same_bytes() -> None:
    # R4.12.3
    made, given = study(), encoded(study())
    terms = SessionTerms(sid=b"s" * 32, n=4, threshold=made.threshold, colluding=1)
    masked = run_round(terms, {party: given[site].copy() for party, site in enumerate(IDS, start=1)}).total
    plain = added(given)
    assert masked.tobytes() == plain.tobytes()
    assert advanced(made, masked).tobytes() == advanced(made, plain).tobytes()


def test_the_ranges_of_types_follow_the_half_that_travels() -> None:
    made = study(mode="alternating")
    rule = GlobalStep(made, adapter())
    for number, lora in ((1, 12), (2, 8)):
        assert rule.types(number)[0] == TypeRange(lora + 1, lora + 3, 0)
        total = added(encoded(made, number))
        assert advanced(made, total, number).shape == (adapter().dimension,)


@pytest.mark.parametrize("threads", [1, 3])
def test_neither_threads_nor_chunks_change_a_bit(threads: int) -> None:
    codec = study().codec()
    size = (1 << 19) + 11
    drawn = np.random.default_rng(1)
    values = drawn.normal(0, 0.1, size).astype(np.float32)
    groups = [(5, 40_000, 700), (262_140, 262_150, 0), (300_000, 300_001, 65_536)]
    stream = Keystream(b"k" * 32)  # it can be read from whole blocks on only, and no group begins at one
    one = codec.encode(values, weight=999, words=stream, groups=groups, threads=threads)
    weight_at = np.full(size, 999)
    for first, last, weight in groups:
        weight_at[first:last] = weight
    for weight in set(weight_at.tolist()):
        whole = codec.encode(values, weight=weight, words=stream)
        assert np.array_equal(one[:size][weight_at == weight], whole[:size][weight_at == weight])


def test_a_group_without_weight_is_refused() -> None:
    made = study()
    total = added(encoded(made))
    total[-1] = 0
    with pytest.raises(CodecError, match="weight sum of a group"):
        advanced(made, total)


def test_each_mean_is_held_to_the_bounds_by_itself() -> None:
    # R4.12.4
    codec = study().codec()
    half = np.full(8, 0.5, dtype=np.float32)
    groups, sums = [(0, 4, 0)], [65_536]
    arguments: dict[str, Any] = {"codec": codec, "m": 4, "groups": groups, "group_sums": sums}
    norm = check_aggregate(half, 65_536, clip_norm=1.0, **arguments)  # each part has norm 1, the whole more
    assert norm == pytest.approx(np.sqrt(2))
    with pytest.raises(AggregateBoundError, match="norm"):
        check_aggregate(half, 65_536, clip_norm=0.9, **arguments)
    with pytest.raises(AggregateBoundError, match="norm"):
        check_aggregate(half, 65_536, clip_norm=1.0, codec=codec, m=4)
    with pytest.raises(AggregateBoundError, match="weight sum"):
        check_aggregate(half, 65_536, clip_norm=1.0, **{**arguments, "group_sums": [5 * 65_536]})


def test_a_type_of_fewer_sites_than_the_threshold_is_no_part_of_a_study() -> None:
    """Its weight sum and its rows would be those of too few (G40)."""
    two = {**UNEVEN, "site-c": ("problem", "drug")}
    with pytest.raises(ConfigError, match="'severity' is annotated by 2 members"):
        study(two)


def test_type_weights_need_output_rows_of_the_studys_types() -> None:
    # R4.12.1
    with pytest.raises(ConfigError, match="token classifier"):
        make_study(overrides={"aggregation__type_weights": "mentions"})
    with pytest.raises(ConfigError, match="2 label types have 5"):
        GlobalStep(study({s: ("problem", "drug") for s in IDS}, labels__modifiers=[]), adapter())


def test_type_that_only_a_threshold_of_members_annotates_is_warned_of() -> None:
    (warning,) = [line for line in study().warnings() if "'severity'" in line]
    assert "annotated by 3 members" in warning and "cannot end" in warning
    assert not [line for line in study(EVERYBODY).warnings() if "annotated by" in line]
