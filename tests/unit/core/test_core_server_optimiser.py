"""FedAvgM and FedAdam: what a published sum leads to, and that every party finds the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.server_optimiser import OptimiserState, ServerOptimiser
from fedmedlora_core.strategy_terms import ServerTerms
from fedmedlora_core.study import Study
from fedmedlora_testkit.studies import make_study

Floats = np.ndarray[Any, Any]
ADAM = {"optimiser": "adam", "beta1_milli": 900, "beta2_milli": 990, "adaptivity_micro": 1000}
MOMENTUM = {"optimiser": "momentum", "beta1_milli": 800}
SHAPES = {"a.lora_B.weight": (40_000, 2), "b.lora_B.weight": (3, 5)}


def adapter() -> Adapter:
    drawn = np.random.default_rng(4)
    tensors = {name: drawn.normal(0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()}
    return Adapter(tensors, tuple(sorted(SHAPES)))


def study(server: dict[str, Any] | None, rate_milli: int = 1000) -> Study:
    initial = adapter()
    return make_study(
        initial_digest=initial.digest,
        dimension=initial.dimension,
        overrides={
            "aggregation__server": server,
            "aggregation__server_learning_rate_milli": rate_milli,
            "secure_aggregation__wire_bits": 32,
        },
    )


def ring_sum(made: Study, number: int) -> Floats:
    """The sum of three sites in a round, and what it decodes to."""
    drawn = np.random.default_rng(number)
    total = np.zeros(made.packing(number).count, dtype=np.uint32)
    for weight in (40_000, 30_000, 20_000):
        values = drawn.normal(0.01, 0.02, made.update_dimension(number)).astype(np.float32)
        total += made.codec().encode(
            values, weight=weight, words=lambda _, n: np.zeros(n, np.uint32), extras=(0,)
        )
    return total


def averages(made: Study, rounds: int) -> list[Floats]:
    return [made.codec().decode(ring_sum(made, n), extras=1)[0] for n in range(1, rounds + 1)]


def run(made: Study, rounds: int, *, threads: int = 1, whole: bool = False) -> tuple[Floats, Any]:
    """Take some rounds; the adapter in one piece, as the coordinator has it, or by tensors, as a site has."""
    base, rule = adapter(), GlobalStep(made, adapter())
    state = rule.initial_state()
    for number in range(1, rounds + 1):
        segments = [(0, base.dimension, base.vector())] if whole else base.segments()
        found = rule.advance(
            segments, state, ring_sum(made, number), round_number=number, m=3, threads=threads
        )
        base, state = base.with_vector(found.vector.copy()), found.state
    return base.vector(), state


def test_fedadam_equals_its_reference() -> None:
    # R4.9.1
    rate, b1, b2, a = (np.float32(x) for x in (0.01, 0.9, 0.99, 0.001))
    made = study(ADAM, rate_milli=10)
    x: Floats = adapter().vector()
    m: Floats = np.zeros_like(x)
    v: Floats = np.full_like(x, a * a)
    for delta in averages(made, 4):
        m = b1 * m + (np.float32(1) - b1) * delta
        v = b2 * v + (np.float32(1) - b2) * (delta * delta)
        x = x + rate * (m / (np.sqrt(v) + a))
    found, state = run(made, 4)
    assert x.dtype == np.float32
    assert found.tobytes() == x.tobytes()
    assert state.vectors["mean"].tobytes() == m.tobytes()
    assert state.vectors["square"].tobytes() == v.tobytes()


def test_fedavgm_equals_its_reference() -> None:
    # R4.9.1
    made = study(MOMENTUM)
    x = adapter().vector()
    m = np.zeros_like(x)
    for delta in averages(made, 4):
        m = np.float32(0.8) * m + delta
        x = x + np.float32(1.0) * m
    found, state = run(made, 4)
    assert found.tobytes() == x.tobytes()
    assert state.vectors["mean"].tobytes() == m.tobytes()
    assert not np.array_equal(found, run(study(None), 4)[0])


def test_the_first_round_of_momentum_is_plain_averaging() -> None:
    assert run(study(MOMENTUM), 1)[0].tobytes() == run(study(None), 1)[0].tobytes()


@pytest.mark.parametrize("server", [ADAM, MOMENTUM])
def test_neither_threads_nor_pieces_change_a_bit(server: dict[str, Any]) -> None:
    # R4.9.2
    """The coordinator holds one vector, a site tensors; the larger tensor is longer than a chunk of work."""
    made = study(server, rate_milli=10)
    one, state = run(made, 3)
    other, same = run(made, 3, threads=3, whole=True)
    assert one.tobytes() == other.tobytes()
    assert state.digest == same.digest


def test_what_is_next_to_nothing_is_nothing() -> None:
    # R4.9.2
    """Subnormal numbers are flushed by some processors and some settings: none stays in the state."""
    terms = ServerTerms(optimiser="adam", beta1_milli=0, beta2_milli=0, adaptivity_micro=1)
    optimiser = ServerOptimiser(terms, 1.0)
    state = optimiser.started(OptimiserState.initial(terms, 3))
    average = np.array([1e-38, -1e-20, 0.5], dtype=np.float32)  # the square of the second is subnormal
    out = np.zeros(3, dtype=np.float32)
    optimiser.step(np.zeros(3, dtype=np.float32), average, state, first=0, out=out)
    assert state.vectors["square"].tolist() == [0.0, 0.0, 0.25]
    assert state.vectors["mean"].tolist()[0] == 0.0


def test_a_state_that_is_read_back_is_the_same_and_a_strange_one_is_refused(tmp_path: Path) -> None:
    made = study(ADAM)
    _, state = run(made, 2)
    state.save(tmp_path)
    server = made.aggregation.server
    assert server is not None
    assert OptimiserState.load(tmp_path, server, state.dimension).digest == state.digest
    with pytest.raises(ConfigError, match="another optimiser or adapter"):
        OptimiserState.load(tmp_path, server, state.dimension - 1)
    with pytest.raises(ConfigError, match="another optimiser or adapter"):
        OptimiserState.load(tmp_path, ServerTerms(optimiser="momentum"), state.dimension)
    (tmp_path / "optimiser.safetensors").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="not a state"):
        OptimiserState.load(tmp_path, server, state.dimension)


def test_the_digest_of_a_state_tells_every_value_and_its_kind() -> None:
    # R4.9.3
    zero = {"mean": np.zeros(2, dtype=np.float32)}
    moved = {"mean": np.array([0, 1e-30], dtype=np.float32)}
    found = {
        OptimiserState(kind, size, vectors).digest
        for kind, size, vectors in [
            ("momentum", 2, {}),
            ("momentum", 3, {}),
            ("adam", 2, {}),
            ("momentum", 2, zero),
            ("momentum", 2, moved),
            ("adam", 2, {**zero, "square": zero["mean"]}),
        ]
    }
    assert len(found) == 6


def test_a_step_leaves_the_state_that_it_came_from() -> None:
    """A round may be rolled back, or voted on: until it is closed the old state must still be there."""
    made = study(ADAM)
    rule, base = GlobalStep(made, adapter()), adapter()
    _, state = run(made, 1)
    before = state.digest
    rule.advance(base.segments(), state, ring_sum(made, 2), round_number=2, m=3)
    assert state.digest == before
    with pytest.raises(ValueError, match="optimiser"):
        rule.advance(base.segments(), None, ring_sum(made, 2), round_number=2, m=3)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"optimiser": "adam"}, "needs beta2_milli"),
        ({"optimiser": "momentum", "beta2_milli": 990}, "belong to optimiser 'adam'"),
        ({"optimiser": "momentum", "beta1_milli": 1000}, "less than or equal to 999"),
        ({"optimiser": "yogi"}, "'momentum' or 'adam'"),
        ({"optimiser": "momentum", "beta3": 1}, "unknown key"),
    ],
)
def test_a_strange_optimiser_is_refused(server: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study(server)


def test_a_study_without_an_optimiser_has_the_charter_it_always_had() -> None:
    assert b'server"' not in make_study().canonical_json().replace(b"server_learning", b"")
