"""`bench privacy`: what privacy costs in extraction and what it leaves to an attacker, by budget and by mode.

| module | holds |
|---|---|
| `options` | the sizes of a run |
| `jobs` | what is trained and measured, as jobs of a grid |
| `measuring` | what those jobs do |
| `modes` | what the modes of aggregation cost and open, beside the same adapter |
| `run` | the layout of a run and its result file |
"""

from fedmedlora_bench.privacy.options import PrivacyOptions
from fedmedlora_bench.privacy.run import run_privacy

__all__ = ["PrivacyOptions", "run_privacy"]
