"""One training step of a large profile on this machine: memory and tokens a second beside a bare loop."""

from fedmedlora_bench.step.plan import StepPlan
from fedmedlora_bench.step.run import run_step

__all__ = ["StepPlan", "run_step"]
