"""What the modes of aggregation cost and open, beside one and the same adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmedlora_bench.ckks import run_ckks
from fedmedlora_core.study import Study
from fedmedlora_crypto.ckks import LibraryError
from fedmedlora_crypto.ckks.parameters import upload_bytes

__all__ = ["mode_rows"]

NOISY = "masks and noise by hospital"
_SEES: Mapping[str, str] = {
    "none": "every single update",
    "masks": "masked updates, and sums of T hospitals or more",
    NOISY: "masked updates, and noised sums of T hospitals or more",
    "ckks": "ciphertexts; who holds the key opens sums",
}
"""What whoever runs the coordinator sees of updates."""
_ATTACKED: Mapping[str, str] = {
    "none": "one step, plain",
    "masks": "one step, masked upload",
    NOISY: "one step, masked upload",
}
"""The case of `bench attacks` that attacks just that; nobody attacks ciphertexts here."""


def mode_rows(study: Study, attacks: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One row for each mode: bytes and seconds of one hospital in one round, and what inversion gets.

    Args:
        study: The study whose update travels.
        attacks: A result of `bench attacks`; None leaves inversion out.
    """
    packing, seconds = study.packing(1), _seconds(study)
    return [
        {
            "mode": mode,
            "coordinator_sees": sees,
            "upload_bytes": upload_bytes(packing.count) if mode == "ckks" else packing.total_bytes,
            "site_seconds": seconds.get(mode),
            "inversion": None if attacks is None else _inversion(mode, attacks),
        }
        for mode, sees in _SEES.items()
    ]


def _seconds(study: Study) -> dict[str, float]:
    """Seconds of one hospital, measured on an update of this size in this process; ckks where it is there."""
    size, members = study.adapter.dimension, len(study.members)
    try:
        measured = run_ckks((size,), sites=members, wire_bits=study.codec().ring_bits, cores=1)["rows"]
    except LibraryError:
        return {"none": 0.0}
    found = {row["way"]: float(row["site_seconds"]) for row in measured}
    return {"none": 0.0, NOISY: found["masks"], **found}


def _inversion(mode: str, attacks: Mapping[str, Any]) -> dict[str, Any] | None:
    """Share of one step's words that comes out, of the smallest step that was attacked."""
    rows = [row for row in attacks.get("inversion", ()) if row["case"] == _ATTACKED.get(mode)]
    if not rows:
        return None
    least = min(row["sentences"] for row in rows)
    row = max((row for row in rows if row["sentences"] == least), key=lambda row: row["recovered"])
    return {
        "adapter_mode": row["mode"],
        "sentences": least,
        "recovered": row["recovered"],
        "by_frequency": row["guesser_recovered"],
        "auc": row["auc"],
    }
