"""Under differential privacy a site releases its update and constants, nothing else (R4.13.2, R4.14.1).

One check for both tables: whoever protects a patient and whoever protects a hospital must not let a weight, a
vote or a count out beside what is noised and accounted for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedmedlora_core.study import Study


def check_releases(study: Study) -> None:
    """Refuse a charter under which something would be released that no accountant charges.

    Raises:
        ValueError: One sentence that names the table of the charter.
    """
    tables = {"privacy": study.privacy, "site_noise": study.site_noise}
    table = next((name for name, terms in tables.items() if terms is not None), None)
    if table is None:
        return
    if study.aggregation.size_exponent_milli or study.aggregation.tau_milli:
        raise ValueError(
            f"{table}: weights that follow size or loss would be released without being charged; "
            "size_exponent_milli and tau_milli must be 0"
        )
    if study.aggregation.type_weights is not None:
        raise ValueError(f"{table}: counts of mentions would be released; leave type_weights out")
    if study.secure_aggregation.vote is not None:
        raise ValueError(f"{table}: a vote's losses would be released; leave the vote out")
    if study.secure_aggregation.validation is not None:  # R4.15.9: counts are exact, and nobody charges them
        raise ValueError(
            f"{table}: exact validation counts would be released; leave the table validation out"
        )
    if study.privacy is not None and study.adapter.mode == "sa":
        raise ValueError("privacy: in mode 'sa' a site trains on without noise; choose another mode")
