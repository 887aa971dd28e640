"""The packing that a blob's size tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.errors import CodecError
from fedmedlora_core.packing import FRAME_BYTES, WIRE_BITS, Packing
from fedmedlora_core.ring_chunks import packing_of_blob


@given(st.sampled_from(WIRE_BITS), st.integers(1, 2_000_000))
def test_the_size_of_a_blob_tells_its_packing(bits: int, count: int) -> None:
    packing = Packing(bits, count)
    assert packing_of_blob(packing.total_bytes, bits=bits) == packing


@pytest.mark.parametrize(
    ("total", "bits"), [(0, 32), (-4, 32), (3, 32), (1, 16), (FRAME_BYTES, 24), (FRAME_BYTES + 2, 24)]
)
def test_other_sizes_are_refused(total: int, bits: int) -> None:
    with pytest.raises(CodecError):
        packing_of_blob(total, bits=bits)
