"""How much memory a round takes above its base, measured on what sites and coordinators run."""

from __future__ import annotations

import pytest

from fedmedlora_bench.memory import Role, measure_memory

DIMENSION = 4_000_000
CONSTANT_BYTES = 12 << 20  # frames of 1 MiB on their way to the disk, buffers of threads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "sites", "most"), [("site", 4, 3), ("coordinator", 4, 2), ("coordinator", 7, 2)]
)
def test_a_round_takes_at_most_three_vectors_at_a_site_and_two_at_the_coordinator(
    role: Role, sites: int, most: int
) -> None:
    found = measure_memory(role, DIMENSION, sites=sites)
    assert found.vectors > 1, "there was a vector to be seen"
    assert found.above_bytes <= most * 4 * DIMENSION + CONSTANT_BYTES
