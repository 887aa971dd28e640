"""Strategies by name, the halves of an adapter, and what a charter says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import Run, check_layout, halves_of, moved, runs_of, with_personal
from fedmedlora_core.errors import CodecError, ConfigError
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.profile import Profile
from fedmedlora_core.strategies import STRATEGIES, overrides_of, strategy_of
from fedmedlora_core.study import Study
from fedmedlora_testkit.studies import make_study

SHAPES = {
    "a.lora_A.weight": (2, 3),
    "a.lora_B.weight": (4, 2),
    "b.lora_A.weight": (2, 5),
    "b.lora_B.weight": (6, 2),
    "classifier.weight": (3, 3),
}
ADAM = STRATEGIES["fedadam"]["aggregation__server"]


def adapter(*, trainable: str = "") -> Adapter:
    """An adapter of two modules and a classifier; `trainable` leaves out names that hold it."""
    drawn = np.random.default_rng(2)
    tensors = {name: drawn.normal(0, 1, shape).astype(np.float32) for name, shape in SHAPES.items()}
    return Adapter(tensors, tuple(sorted(n for n in SHAPES if not trainable or trainable not in n)))


def study(initial: Adapter, mode: str, **overrides: Any) -> Study:
    return make_study(
        initial_digest=initial.digest,
        dimension=initial.dimension,
        halves=halves_of(initial, mode),
        overrides={"adapter__mode": mode, "secure_aggregation__wire_bits": 32, **overrides},
    )


def ring_sum(made: Study, number: int, value: float = 0.25) -> np.ndarray[Any, Any]:
    values = np.full(made.update_dimension(number), value, dtype=np.float32)
    total = np.zeros(made.packing(number).count, dtype=np.uint32)
    for _ in range(3):
        total += made.codec().encode(
            values, weight=65_536, words=lambda _, n: np.zeros(n, np.uint32), extras=(0,)
        )
    return total


def places(made: Adapter) -> list[tuple[int, int]]:
    """Where each trainable tensor lies."""
    return [(first, last) for first, last, _ in made.segments()]


# -- alternating


def test_odd_rounds_carry_b_even_rounds_a_and_both_the_classifier() -> None:
    # R4.10.1, R4.10.2
    initial = adapter()
    made = study(initial, "alternating")
    assert made.adapter.halves == (6 + 10 + 9, 8 + 12 + 9)
    assert [made.update_dimension(number) for number in (1, 2, 3)] == [29, 25, 29]
    assert runs_of(initial, "A") == (Run(0, 6, 0), Run(14, 24, 6), Run(36, 45, 16))
    assert runs_of(initial, None) == (Run(0, 45, 0),)
    assert [packing.count for packing in made.packings()] == [31, 27]
    assert [p.count for p in study(initial, "ab").packings()] == [47]


@pytest.mark.parametrize("server", [None, ADAM])
def test_a_round_moves_its_half_and_nothing_else(server: dict[str, Any] | None) -> None:
    # R4.10.4: under an optimiser, too: the mean of A must not go on moving A in rounds that train B.
    initial = adapter()
    made = study(initial, "alternating", aggregation__server=server)
    rule = GlobalStep(made, initial)
    base, state = initial, rule.initial_state()
    for number in (1, 2, 3):
        found = rule.advance(base.segments(), state, ring_sum(made, number), round_number=number, m=3)
        after = base.with_vector(found.vector)
        kept = ".lora_A." if number % 2 else ".lora_B."
        for name, tensor in after.tensors.items():
            assert np.array_equal(tensor, base.tensors[name]) is (kept in name), (number, name)
        if found.state is not None and state is not None and state.vectors:
            changed = found.state.vectors["mean"] != state.vectors["mean"]
            assert [bool(changed[first:last].all()) for first, last in places(initial)] == [
                kept not in name for name in initial.trainable
            ]
        base, state = after, found.state


def test_under_plain_averaging_the_half_moves_by_the_average() -> None:
    initial = adapter()
    made = study(initial, "alternating")
    found = GlobalStep(made, initial).advance(
        initial.segments(), None, ring_sum(made, 2), round_number=2, m=3
    )
    average = made.codec().decode(ring_sum(made, 2), extras=1)[0]
    expected = moved(initial, average, runs_of(initial, "A"))
    assert expected.vector().tobytes() == found.vector.tobytes()


def test_a_sum_of_the_other_half_is_refused() -> None:
    initial = adapter()
    made = study(initial, "alternating")
    with pytest.raises(CodecError, match="another length"):
        GlobalStep(made, initial).advance(initial.segments(), None, ring_sum(made, 1), round_number=2, m=3)


@pytest.mark.parametrize(
    ("mode", "halves", "message"),
    [
        ("alternating", None, "belongs to mode 'alternating'"),
        ("ab", (20, 20), "belongs to mode 'alternating'"),
        ("alternating", (20, 20), "every value"),
        ("alternating", (46, 10), "every value"),
    ],
)
def test_strange_halves_are_refused(mode: str, halves: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_study(dimension=45, halves=halves, overrides={"adapter__mode": mode})


def test_an_adapter_with_other_halves_is_refused() -> None:
    # R4.10.3
    made = make_study(dimension=45, halves=(24, 30), overrides={"adapter__mode": "alternating"})
    with pytest.raises(ConfigError, match="another number"):
        check_layout(adapter(), made.adapter)


# -- what stays at a site


def test_mode_sa_shares_a_and_the_classifier_and_no_b() -> None:
    # R4.11.1
    shared = adapter(trainable=".lora_B.")
    made = study(shared, "sa")
    assert made.update_dimension(1) == 6 + 10 + 9
    check_layout(shared, made.adapter)
    with pytest.raises(ConfigError, match="leaves B at each site"):
        check_layout(adapter(), study(adapter(), "sa").adapter)


def test_a_sites_own_part_takes_its_place_in_the_adapter() -> None:
    shared = adapter(trainable=".lora_B.")
    own = np.arange(20, dtype=np.float32)
    found = with_personal(shared, own)
    assert np.array_equal(found.tensors["a.lora_B.weight"].ravel(), own[:8])
    assert np.array_equal(found.tensors["b.lora_B.weight"].ravel(), own[8:])
    assert np.array_equal(found.vector(), shared.vector())
    with pytest.raises(ConfigError, match="does not fit"):
        with_personal(shared, own[:-1])


def test_mode_sa_has_no_vote() -> None:
    with pytest.raises(ConfigError, match="no vote"):
        make_study(overrides={"adapter__mode": "sa", "secure_aggregation__vote": {"every_rounds": 1}})


# -- names


def test_every_strategy_makes_a_study_and_is_named_by_it() -> None:
    initial = adapter()
    for name, overrides in STRATEGIES.items():
        mode = Profile.load("tiny").override(**overrides).adapter.mode
        kind: Any = "token_classification" if name == "types" else "causal"
        made = make_study(dimension=45, halves=halves_of(initial, mode), overrides=overrides, kind=kind)
        assert name in strategy_of(made).replace(" ", ",").split(",")


def test_strategies_of_different_kinds_are_joined_and_of_one_kind_refused() -> None:
    found = overrides_of(["fedmedlora+", "fedprox", "fedadam", "alternating"])
    made = make_study(dimension=45, halves=halves_of(adapter(), "alternating"), overrides=found)
    assert strategy_of(made) == "fedmedlora+, fedprox (mu 0.01), fedadam (server rate 0.01), alternating"
    with pytest.raises(ConfigError, match="'fedavgm' and 'fedadam' exclude each other"):
        overrides_of(["fedavgm", "fedadam"])
    with pytest.raises(ConfigError, match="no strategy 'fedsgd'"):
        overrides_of(["fedsgd"])


def test_studies_without_new_keys_keep_their_charter_digest() -> None:
    """A charter that was signed before a strategy existed must read back to the same bytes."""
    text = make_study().canonical_json()
    assert not [key for key in (b"halves", b'"server"', b"proximal", b"type_weights") if key in text]
    assert Study.from_canonical_json(text).digest == make_study().digest
