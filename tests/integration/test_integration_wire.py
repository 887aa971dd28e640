"""A masked sum on a narrow wire is the plain sum to the bit, and its mean lies within the bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmedlora_core.codec import CLIPPED_PERMILLE_MAX, EXTRAS, Codec, clip_update, clipped_permille
from fedmedlora_core.packing import FRAME_BYTES, Packing
from fedmedlora_core.study import threshold_for
from fedmedlora_crypto.secagg.reference import run_round
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream

DROPPED_AT = ("advertise", "share", "upload")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Members, who drops out where, widths, clips, weights and a seed for the updates."""
    n = draw(st.integers(3, 6))
    spare = n - threshold_for(n, n // 3)
    gone = draw(st.lists(st.integers(1, n), max_size=spare, unique=True))
    bits = draw(st.sampled_from([16, 24, 32]))
    weight_max = draw(st.integers(1, {16: 1000, 24: 65_536, 32: 1_000_000}[bits]))
    return {
        "n": n,
        "bits": bits,
        "dropped": {
            step: {x for x in gone if draw(st.sampled_from(DROPPED_AT)) == step} for step in DROPPED_AT
        },
        "clip": draw(st.floats(1e-3, 10)),
        "norm": draw(st.floats(1e-2, 100)),
        "dimension": draw(st.integers(1, 60)),
        "weight_max": weight_max,
        "weights": draw(st.lists(st.integers(1, weight_max), min_size=n, max_size=n)),
        "spread": draw(st.floats(1e-4, 20)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_the_masked_sum_is_the_plain_sum_and_decodes_to_the_mean_within_the_bound(
    case: dict[str, Any],
) -> None:
    # R4.5.4
    n, bits, d = case["n"], case["bits"], case["dimension"]
    codec = Codec(clip=case["clip"], n=n, weight_max=case["weight_max"], ring_bits=bits)
    packing = Packing(bits, d + 1 + EXTRAS)
    drawn = np.random.default_rng(case["seed"])
    clipped, shares, vectors = {}, {}, {}
    for party in range(1, n + 1):
        update = (drawn.standard_normal(d) * case["spread"]).astype(np.float32)
        clipped[party], fraction = clip_update(update, clip_value=case["clip"], clip_norm=case["norm"])
        shares[party] = clipped_permille(fraction)
        vectors[party] = codec.encode(
            clipped[party],
            weight=case["weights"][party - 1],
            words=Keystream(bytes([party]) * 32).words,
            extras=(shares[party],),
        )
    terms = SessionTerms(
        sid=b"s" * 32,
        n=n,
        threshold=threshold_for(n, n // 3),
        colluding=n // 3,
        suite="x25519-aes256ctr/2",
    )
    found = run_round(terms, vectors, dropped=case["dropped"])

    # What travels is the low bits of the masked words; the coordinator adds what arrived.
    total = np.zeros(packing.count, dtype=np.uint32)
    for party in found.u3:
        masked, sent = found.masked[party], list(packing.frames_of(found.masked[party]))
        assert (masked != vectors[party]).any()
        for index, frame in enumerate(sent):
            packing.add(total, frame, index)
    unmasked = total - (sum(found.masked.values(), np.zeros_like(total)) - found.total)
    plain = sum((vectors[party] for party in found.u3), np.zeros_like(total))
    assert list(packing.frames_of(unmasked)) == list(packing.frames_of(plain))

    mean, weight_sum, (share_sum,) = codec.decode(unmasked, extras=EXTRAS)
    weights = {party: case["weights"][party - 1] for party in found.u3}
    assert weight_sum == sum(weights.values())
    assert share_sum == sum(shares[party] for party in found.u3) <= CLIPPED_PERMILLE_MAX * len(found.u3)
    exact = sum((weights[p] * clipped[p].astype(np.float64) for p in found.u3), np.zeros(d)) / weight_sum
    bound = codec.error_bound(weight_sum=weight_sum, m=len(found.u3))
    assert (np.abs(mean - exact) <= bound + np.spacing(np.float32(case["clip"]))).all()


def test_a_narrow_upload_masked_on_one_and_on_two_threads_is_the_same_file() -> None:
    packing = Packing(24, 3 * FRAME_BYTES)
    vector = np.random.default_rng(3).integers(0, 2**24, packing.count, dtype=np.uint32)
    files = []
    for threads in (1, 2):
        masked = vector.copy()
        Keystream(b"p" * 32).add_into(masked, threads=threads)
        Keystream(b"q" * 32).add_into(masked, sign=-1, threads=threads)
        files.append(b"".join(packing.frames_of(masked)))
    assert files[0] == files[1]
