"""A site without `severity` does not teach the model to miss it: nothing in its loss speaks of that type.

Every claim has a partner in which the missing label is taken for a negative, as it would be if the site said
that it had looked for it: there the same notes do the harm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.lora import LoraTerms
from fedmedlora_core.learning.site_round import make_learner
from fedmedlora_core.learning.tagging import TaggingLearner
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import train_local
from fedmedlora_core.records import Entity, Note, Relation
from fedmedlora_core.tasks.tagging import tag_names
from fedmedlora_core.training_terms import AnswerFormat
from fedmedlora_testkit.models import FINDINGS, write_causal, write_encoder

LABELS = label_set(["problem"], ["severity", "negation"])
WITH = frozenset({"problem", "severity", "negation"})
WITHOUT = WITH - {"severity"}
SEVERITY = [place for place, name in enumerate(tag_names(LABELS)) if name.endswith("-severity")]
TERMS = TrainTerms(local_epochs=1, batch_size=12, learning_rate=2e-2, max_steps=2)
FORMATS: tuple[AnswerFormat, ...] = ("inline", "json")


def notes_of() -> list[Note]:
    """Write "Severe fever ." and "No fever ." for each finding, with every label."""
    found = []
    for finding in FINDINGS:
        for word, label in (("Severe", "severity"), ("No", "negation")):
            text = f"{word} {finding} ."
            entities = (
                Entity("T1", "problem", len(word) + 1, len(text) - 2),
                Entity("T2", label, 0, len(word)),
            )
            links = (Relation("T1", label, "T2"),)
            found.append(Note(f"{word}-{finding}", None, text, entities, links, WITH))
    return found


NOTES = notes_of()
SILENT = [note.restricted_to(WITHOUT) for note in NOTES]
"""The same words at a site that did not look for severity."""
DENYING = [replace(note, annotated=WITH) for note in SILENT]
"""The same, if its missing labels were negatives."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def generative(folder: Path, answers: AnswerFormat) -> GenerativeLearner:
    terms = LoraTerms(rank=4, alpha=8, targets=("q_proj",), mode="ab")
    base = load_base(folder, kind="causal")
    learner = make_learner(base, terms, LABELS, seed=1, max_tokens=500, answers=answers)
    assert isinstance(learner, GenerativeLearner)
    return learner


def tagging(folder: Path) -> TaggingLearner:
    terms = LoraTerms(rank=8, alpha=16, targets=("query", "value"), mode="ab")
    base = load_base(folder, kind="token_classification", tags=tag_names(LABELS))
    learner = make_learner(base, terms, LABELS, seed=1, max_tokens=64)
    assert isinstance(learner, TaggingLearner)
    return learner


def gradients(learner: TaggingLearner, notes: list[Note]) -> dict[str, torch.Tensor]:
    learner.model.zero_grad()
    learner.loss(learner.samples(notes, ["ner", "re"]))[0].backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in learner.model.named_parameters() if p.grad is not None}


def output_layer(learner: TaggingLearner) -> dict[str, torch.nn.Parameter]:
    named = learner.model.named_parameters()
    return {name: p for name, p in named if "classifier" in name and p.requires_grad}


def test_a_tagger_gets_no_gradient_that_lowers_a_type_that_nobody_looked_for(encoder: Path) -> None:
    learner = tagging(encoder)
    silent, denying = gradients(learner, SILENT), gradients(learner, DENYING)
    for name in output_layer(learner):
        assert not silent[name][SEVERITY].any()
        assert denying[name][SEVERITY].any()
    (bias,) = (name for name in output_layer(learner) if name.endswith("bias"))
    assert bool((denying[bias][SEVERITY] > 0).all())  # descent would lower both tags everywhere


def test_a_taggers_whole_gradient_does_not_depend_on_what_it_thinks_of_that_type(encoder: Path) -> None:
    """Not only the tag's own rows: nothing below them is pushed either."""
    for notes, same in ((SILENT, True), (DENYING, False)):
        found = []
        for value in (0.0, 3.0):
            learner = tagging(encoder)
            with torch.no_grad():
                for parameter in output_layer(learner).values():
                    parameter[SEVERITY] = value
            found.append(gradients(learner, notes))
        equal = [torch.equal(found[0][name], found[1][name]) for name in found[0]]
        assert all(equal) is same


def test_a_round_at_such_a_site_leaves_the_tags_of_that_type_where_they_were(encoder: Path) -> None:
    for notes, same in ((SILENT, True), (DENYING, False)):
        learner = tagging(encoder)
        before = {name: p.detach()[SEVERITY].clone() for name, p in output_layer(learner).items()}
        train_local(learner, learner.samples(notes, ["ner", "re"]), TERMS, seed=1)
        after = {name: p.detach()[SEVERITY] for name, p in output_layer(learner).items()}
        assert all(torch.equal(after[name], before[name]) for name in before) is same


@pytest.mark.parametrize("answers", FORMATS)
@pytest.mark.parametrize("control_tokens", [True, False])
def test_a_generative_model_is_never_told_that_there_is_none(
    tmp_path: Path, answers: AnswerFormat, control_tokens: bool
) -> None:
    """No prompt of the site names the type, so no answer of its own can deny it."""
    learner = generative(write_causal(tmp_path, control_tokens=control_tokens), answers)
    nothing = learner.template.relation_target(())

    def denials(notes: list[Note]) -> int:
        texts = [learner.tokenizer.decode(sample.ids) for sample in learner.samples(notes, ["ner", "re"])]
        asked = [text for text in texts if "severity" in text]
        return sum(nothing in text for text in asked) if asked else -1

    assert denials(SILENT) == -1  # it is not asked at all
    assert denials(NOTES) == 0
    assert denials(DENYING) == len(FINDINGS)
