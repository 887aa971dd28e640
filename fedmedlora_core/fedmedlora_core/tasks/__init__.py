"""Entities and relations as text for a language model, and back to character offsets.

The prompts name only the types that a note is annotated for; outputs are aligned to the original text, and
what cannot be aligned is counted, never guessed. Needs no torch.
"""

from fedmedlora_core.tasks.examples import (
    Example,
    Task,
    entity_examples,
    examples_of,
    read_output,
    relation_examples,
    with_entities,
    with_relations,
)
from fedmedlora_core.tasks.inline import Parsed, TypedSpan
from fedmedlora_core.tasks.templates import PlainTemplate, Template, TinyTemplate, template_for

__all__ = [
    "Example",
    "Parsed",
    "PlainTemplate",
    "Task",
    "Template",
    "TinyTemplate",
    "TypedSpan",
    "entity_examples",
    "examples_of",
    "read_output",
    "relation_examples",
    "template_for",
    "with_entities",
    "with_relations",
]
