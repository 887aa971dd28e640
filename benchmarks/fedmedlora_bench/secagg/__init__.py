"""The cost of secure aggregation: our own code, and a peer's beside it in the same run (ADR 0020)."""

from fedmedlora_bench.secagg.case import Case
from fedmedlora_bench.secagg.run import run_secagg

__all__ = ["Case", "run_secagg"]
