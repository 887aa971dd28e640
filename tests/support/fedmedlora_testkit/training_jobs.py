"""A job for the real trainer: a small random model, a study that names it, notes, and a key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import first_adapter
from fedmedlora_core.records import Note, write_notes
from fedmedlora_core.study import ModelTerms
from fedmedlora_site.training import TrainingJob, training_seed
from fedmedlora_testkit.models import write_causal
from fedmedlora_testkit.studies import changed, make_study


def small_job(root: Path, notes: Sequence[Note], **training: int) -> TrainingJob:
    """Write everything below a folder.

    Args:
        root: The folder.
        notes: The site's notes.
        training: What of the study's training terms is another.
    """
    base = write_causal(root / "model")
    plain = make_study()
    labels = label_set(plain.labels.entities, plain.labels.modifiers)
    terms = LoraTerms(plain.adapter.rank, plain.adapter.alpha, plain.adapter.targets, plain.adapter.mode)
    adapter, digest = first_adapter(
        base, kind="causal", terms=terms, labels=labels, seed=plain.study.seed, base_name="random"
    )
    adapter.save(root / "initial")
    study = make_study(initial_digest=adapter.digest, dimension=adapter.dimension)
    study = study.model_copy(update={"model": ModelTerms(kind="causal", name="random", digest=digest)})
    study = changed(study, "training", **training) if training else study
    (root / "charter.json").write_bytes(study.canonical_json())
    write_notes(root / "notes.jsonl", notes)
    (root / "storage.key").write_bytes(bytes(32))
    return TrainingJob(
        charter=str(root / "charter.json"),
        base_model=str(base),
        adapter=str(root / "initial"),
        notes=str(root / "notes.jsonl"),
        vault=str(root / "updates"),
        storage_key=str(root / "storage.key"),
        site="site-a",
        round=1,
        seed=training_seed(study.study.seed, "site-a", 1),
        dimension=adapter.dimension,
    )
