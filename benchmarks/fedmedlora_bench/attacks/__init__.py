"""Attacks on what leaves a hospital, by somebody who means it (`fedmedlora bench attacks`).

* `planted`, `victim`: hospitals of the synthetic clinic with secrets and canaries in their notes.
* `releases`, `measuring`: training adapters on them, and asking the adapters.
* `ranking`, `epsilon_bound`, `spans`: the mathematics: exposure, ROC, one-run auditing, the span check.
* `inversion`, `inversion_scene`, `inversion_job`: reading words out of updates.
* `poisoning`: one site that lies.
* `run`, `figures`, `options`: which jobs, which rows, how large.

What this package leaves out: attacks by members on the protocol (tests of `fedmedlora_crypto` and the
malicious coordinator of the integration tests), and any claim that a stronger attack does not exist.
"""

from fedmedlora_bench.attacks.options import AttackOptions
from fedmedlora_bench.attacks.run import ATTACKS, run_attacks

__all__ = ["ATTACKS", "AttackOptions", "run_attacks"]
