"""Validation counts on the coordinator's side: how an opened sum is read (PROTOCOL §4.15).

A sum of counts is one more session. Every site in it sums again for itself, so wrong counts are refused, not
believed; and a sum that cannot be read costs the round its counts, never its adapter.
"""

from fedmedlora_audit.validation_data import TypeCounts, ValidationCounted
from fedmedlora_coordinator.aggregate import Summation, sum_and_unmask
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.errors import RoundError
from fedmedlora_core.errors import CodecError
from fedmedlora_core.scores.counts import Counts
from fedmedlora_core.validation_counts import CountLayout, ValidationCounts


def sum_counts(summation: Summation, blobs: BlobStore, layout: CountLayout) -> ValidationCounts:
    """Sum and unmask a session's counts.

    Args:
        summation: The session, as the log has it.
        blobs: Where its payloads are.
        layout: Which types have a place in it.

    Raises:
        RoundError: The shares do not open the sum, or it is more than so many sites can count.
        StoreError: A stored payload is missing or damaged.
    """
    total = sum_and_unmask(summation, blobs)
    try:
        return layout.decode(total, voters=len(summation.survivors))
    except CodecError as exc:  # R4.15.3: somebody wrote something else than counts
        raise RoundError("refused", str(exc)) from None


def published_counts(
    found: ValidationCounts, layout: CountLayout, *, sid: str, sites: int
) -> ValidationCounted:
    """Write summed counts as the log has them: a row for each type with a place, in the charter's order."""
    return ValidationCounted(
        sid=sid,
        sites=sites,
        entities=tuple(_row(found.entities.per_type[label]) for label in layout.entities),
        relations=tuple(_row(found.relations.per_type[label]) for label in layout.relations),
    )


def _row(counts: Counts) -> TypeCounts:
    return TypeCounts(tp=counts.tp, fp=counts.fp, fn=counts.fn)
