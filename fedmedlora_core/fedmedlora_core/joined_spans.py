"""Relations that a corpus expresses otherwise than as relations: by containers, by events, by arguments.

Each function turns one rule of a mapping into links whose first end is the head.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedmedlora_core.mapping import Container, EventRule
from fedmedlora_core.source_documents import SourceDocument, SourceLink, SourceSpan


def container_links(document: SourceDocument, rule: Container) -> list[SourceLink]:
    """Join each modifier inside a container to the nearest head inside it; the first of equally near ones."""
    found: dict[SourceLink, None] = {}
    for outer in document.spans:
        if outer.type != rule.inside:
            continue
        members = _members(document, outer, rule.joined_by)
        heads = [span for span in members if span.type == rule.head]
        for tail in members:
            if tail.type in rule.tails and heads:
                nearest = min(heads, key=lambda head, tail=tail: (_gap(head, tail), head.pieces))  # type: ignore[misc]
                found[SourceLink(tail.type, nearest.id, tail.id)] = None
    return list(found)


def event_links(document: SourceDocument, rule: EventRule) -> list[SourceLink]:
    """Join heads and tails that are arguments of the same event."""
    competing = [event for event in document.events if event.type in rule.among]
    by_id = {span.id: span for span in document.spans}
    found: dict[SourceLink, None] = {}
    for event in competing:
        if event.type != rule.event:
            continue
        is_alone = len(competing) == 1 and not event.arguments
        arguments = list(document.spans) if is_alone else [by_id[name] for name in event.arguments]
        holders = [span for span in arguments if span.type == rule.via]
        heads = [
            span
            for span in document.spans
            if span.type == rule.head and any(_within(span, h) for h in holders)
        ]
        tails = [span for span in arguments if span.type == rule.tail]
        for head in heads:
            for tail in tails:
                found[SourceLink(rule.relation, head.id, tail.id)] = None
    return list(found)


def argument_links(document: SourceDocument) -> Iterator[SourceLink]:
    """Every argument of every event as a link from the trigger, named `Event:Role`.

    BRAT numbers the roles of an event that has several arguments of one kind (`Theme`, `Theme2`); the number
    is no part of the name.
    """
    for event in document.events:
        for role, argument in zip(event.roles, event.arguments, strict=True):
            yield SourceLink(f"{event.type}:{role.rstrip('0123456789')}", event.trigger, argument)


def _within(inner: SourceSpan, outer: SourceSpan) -> bool:
    """Whether every piece of a span lies inside a piece of the other."""
    return all(any(a <= start and end <= b for a, b in outer.pieces) for start, end in inner.pieces)


def _members(document: SourceDocument, outer: SourceSpan, joined_by: str | None) -> list[SourceSpan]:
    """The spans inside a container, by place or by the joining relation."""
    joined = {link.second for link in document.links if link.type == joined_by and link.first == outer.id}
    return [span for span in document.spans if span.id in joined or _within(span, outer)]


def _gap(one: SourceSpan, other: SourceSpan) -> int:
    """Characters between two spans; 0 where they touch or overlap."""
    return max(0, max(one.pieces[0][0], other.pieces[0][0]) - min(one.pieces[-1][1], other.pieces[-1][1]))
