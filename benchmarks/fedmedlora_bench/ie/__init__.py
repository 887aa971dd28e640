"""`bench ie`: zero-shot, single-site, federated and centralised extraction on the same sites and tests.

Every row of the published table of Fed-MedLoRA is a scenario here, every column a system. A scenario says
which adapters it needs scored on which tests; those are jobs (`jobs`), each with a result file of its own, so
that a grid runs on several processes and goes on after a kill (`grid`). The figures depend on the model and
the notes at hand; what they show is the order of the systems.

    run_ie(data=Path("corpora"), base=Path("all-MiniLM-L6"), out=Path("ie.json"))
    run_ie()                                   # the synthetic clinic on the shipped model

What this package leaves out: processes and network of a real federation (`fedmedlora demo` runs them),
privacy and attacks.
"""

from fedmedlora_bench.ie.options import IeOptions
from fedmedlora_bench.ie.run import run_ie
from fedmedlora_bench.ie.scenarios import SCENARIOS

__all__ = ["SCENARIOS", "IeOptions", "run_ie"]
