"""What a charter's width on the wire costs and leaves, for `study new` and `study check` (PROTOCOL §4.5)."""

from __future__ import annotations

from typing import Any

from fedmedlora_core.study import Study
from fedmedlora_crypto.ckks.parameters import SizePlan, upload_bytes

EXPECTED_NOTES = 100
"""Training notes of the site for which the rounding error is stated."""


def wire_facts(study: Study) -> dict[str, Any]:
    """Say what the ring of a study is.

    Returns:
        wire_bits; value_bits of them for a value; head_room_bits, what is left between the largest sum of all
        members and the end of the ring; bytes_per_value on the wire, weight and padding included;
        upload_bytes of one update, the largest; upload_bytes_by_round of an odd and an even round, if
        they differ; expected_weight of a site with 100 training notes, and error_bound, the
        largest rounding error of an averaged value if all sites weigh that, in units of the value.
    """
    codec, sizes = study.codec(), _sizes(study)
    weight = study.weight_rule().weight_of(n_notes=EXPECTED_NOTES, loss=1.0)
    n = len(study.members)
    return {
        "wire_bits": codec.ring_bits,
        "value_bits": codec.value_bits,
        "head_room_bits": round(codec.head_room_bits, 2),
        "bytes_per_value": round(max(size / values for values, size in sizes), 6),
        "upload_bytes": max(size for _, size in sizes),
        "upload_bytes_by_round": [size for _, size in sizes],
        "expected_weight": weight,
        "error_bound": codec.error_bound(weight_sum=n * weight, m=n),
    }


def _sizes(study: Study) -> list[tuple[int, int]]:
    """Values and upload bytes of an odd and of an even round; one pair where they are alike."""
    ckks = study.secure_aggregation.mode == "ckks"
    found = []
    for number in range(1, 1 + len(study.packings())):
        packing = study.packing(number)
        size = upload_bytes(packing.count) if ckks else packing.total_bytes
        found.append((study.update_dimension(number), size))
    return found


def wire_lines(study: Study) -> list[str]:
    """Say it in a few lines; under CKKS they are about ciphertexts."""
    if study.secure_aggregation.mode == "ckks":
        return SizePlan(max(p.count for p in study.packings()), len(study.members)).lines()
    facts = wire_facts(study)
    width = (
        f"wire: {facts['wire_bits']} bits a value, {facts['value_bits']} of them for the value and "
        f"{facts['head_room_bits']} bits of head-room; {facts['bytes_per_value']:.3f} bytes a value, "
        f"{' and '.join(f'{size / 1e6:.2f}' for size in facts['upload_bytes_by_round'])} MB an update"
    )
    rounding = (
        f"rounding: an averaged value is off by less than {facts['error_bound']:.1e} (clip "
        f"{study.clip_value:g}) when sites have {EXPECTED_NOTES} notes"
    )
    return [width, rounding]
