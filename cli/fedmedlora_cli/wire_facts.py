"""What a charter's width on the wire costs and leaves, for `study new` and `study check` (PROTOCOL §4.5)."""

from __future__ import annotations

from typing import Any

from fedmedlora_core.study import Study

EXPECTED_NOTES = 100
"""Training notes of the site for which the rounding error is stated."""


def wire_facts(study: Study) -> dict[str, Any]:
    """Say what the ring of a study is.

    Returns:
        wire_bits; value_bits of them for a value; head_room_bits, what is left between the largest sum of all
        members and the end of the ring; bytes_per_value on the wire, weight and padding included;
        upload_bytes of one update; expected_weight of a site with 100 training notes, and error_bound, the
        largest rounding error of an averaged value if all sites weigh that, in units of the value.
    """
    codec, packing = study.codec(), study.packing()
    weight = study.weight_rule().weight_of(n_notes=EXPECTED_NOTES, loss=1.0)
    n = len(study.members)
    return {
        "wire_bits": codec.ring_bits,
        "value_bits": codec.value_bits,
        "head_room_bits": round(codec.head_room_bits, 2),
        "bytes_per_value": round(packing.total_bytes / study.adapter.dimension, 6),
        "upload_bytes": packing.total_bytes,
        "expected_weight": weight,
        "error_bound": codec.error_bound(weight_sum=n * weight, m=n),
    }


def wire_lines(study: Study) -> list[str]:
    """Say it in two lines; nothing for a study whose updates are not ring vectors."""
    if study.secure_aggregation.mode == "ckks":
        return []
    facts = wire_facts(study)
    width = (
        f"wire: {facts['wire_bits']} bits a value, {facts['value_bits']} of them for the value and "
        f"{facts['head_room_bits']} bits of head-room; {facts['bytes_per_value']:.3f} bytes a value, "
        f"{facts['upload_bytes'] / 1e6:.2f} MB an update"
    )
    rounding = (
        f"rounding: an averaged value is off by less than {facts['error_bound']:.1e} (clip "
        f"{study.clip_value:g}) when sites have {EXPECTED_NOTES} notes"
    )
    return [width, rounding]
