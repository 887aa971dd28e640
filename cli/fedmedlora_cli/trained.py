"""Loading a released adapter for use: the charter beside it says which labels and which base model."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.shipped import shipped_base
from fedmedlora_core.study import CHARTER_FILE, Study


def load_trained(adapter_folder: Path, base: Path | None) -> tuple[Study, Learner]:
    """Load a released adapter on its base model.

    Args:
        adapter_folder: A released PEFT folder, with the study's charter beside the weights.
        base: Folder of the base model; the shipped one when None.

    Returns:
        (the study, a learner that answers with the adapter).

    Raises:
        ConfigError: A file is missing, or the base model is another than the charter's.
    """
    import torch

    torch.set_num_threads(1)
    charter = adapter_folder / CHARTER_FILE
    if not charter.exists():
        raise ConfigError(f"{charter}: no such file; name a folder that a study released")
    study = Study.from_canonical_json(charter.read_bytes())
    adapter = Adapter.load(adapter_folder)
    learner = learner_for(study, base or shipped_base())
    load_adapter(learner.model, adapter)
    return study, learner
