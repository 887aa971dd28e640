"""What is said of validation counts: sums over all counting sites, type by type (PROTOCOL §4.15).

The rows stand in the order of the charter's types; those without a place have no row. So the log holds
integers and no name, and who reads it needs the charter to know which row is which.
"""

from typing import Annotated

from pydantic import Field

from fedmedlora_audit.event_data import Closed, Count, Data, Digest


class TypeCounts(Closed):
    """Spans of one type on the sites' held-out notes: missed, found wrongly, found rightly."""

    fn: Count
    fp: Count
    tp: Count


Rows = Annotated[tuple[TypeCounts, ...], Field(max_length=512)]


class ValidationCounted(Data):
    """``validation.counted``, ``validation.checked``: summed over so many sites, never of one (G49).

    Attributes:
        entities: One row for each entity type with a place.
        relations: The same of relation types.
        sid: The session that opened the sum.
        sites: Sites in it.
    """

    entities: Rows
    relations: Rows
    sid: Digest
    sites: Count
