"""The sparse graph of a large study: chosen when a charter is written, judged when one is checked."""

from __future__ import annotations

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.profile import Profile
from fedmedlora_core.study import Study, threshold_for
from fedmedlora_crypto.errors import TermsError
from fedmedlora_crypto.secagg.graph_parameters import (
    COMPLETE_UP_TO,
    GraphTerms,
    check_graph_terms,
    least_graph,
)


def with_graph(profile: Profile, *, members: int, drop_percent: int) -> Profile:
    """Give a profile of many members the least graph that is safe for them (PROTOCOL §6.15).

    Args:
        profile: Settings of the study; one that names a graph keeps it.
        members: Number of members; up to 128 of them get the complete graph.
        drop_percent: Part of the members, in hundredths, that may drop out of a session at random.

    Returns:
        The profile, with a graph where there is a smaller one than the complete one.

    Raises:
        ConfigError: So many drop-outs leave fewer members than the threshold.
    """
    settings = profile.secure_aggregation
    if settings.graph is not None or members <= COMPLETE_UP_TO:
        return profile
    colluding = members // 3 if settings.colluding_sites is None else settings.colluding_sites
    dropped = members * drop_percent // 100
    needed = threshold_for(members, colluding)
    if members - dropped < needed:
        raise ConfigError(
            f"{drop_percent} % drop-outs leave {members - dropped} members, the threshold is {needed}"
        )
    graph = least_graph(members, colluding=colluding, dropped=dropped)
    return profile if graph is None else profile.override(secure_aggregation__graph=vars(graph))


def check_graph(study: Study) -> None:
    """Refuse a charter whose graph does not protect its members (R6.15.2).

    Raises:
        ConfigError: Its numbers are below what the members need.
    """
    terms = study.secure_aggregation
    if terms.graph is None:
        return
    graph = GraphTerms(**terms.graph.model_dump())
    try:
        check_graph_terms(graph, n=len(study.members), colluding=terms.colluding_sites)
    except TermsError as error:
        raise ConfigError(f"secure_aggregation.graph: {error}") from None


def graph_facts(study: Study) -> dict[str, int] | None:
    """Return the numbers of a study's graph; None for the complete one."""
    graph = study.secure_aggregation.graph
    return None if graph is None else graph.model_dump()


__all__ = ["check_graph", "graph_facts", "with_graph"]
