"""The graph in a charter: written for large studies, left out of small ones, refused when it is weak."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_cli.study_graph import check_graph, graph_facts, with_graph
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.profile import Profile
from fedmedlora_core.study import LogTerms, Study
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms, least_graph
from fedmedlora_testkit.audit_log import ORIGIN, seed_of
from fedmedlora_testkit.studies import changed, make_study

TINY = Profile.load("tiny")
SAFE = {"neighbours": 10, "share_threshold": 7, "window_survivors": 3}


def sparse_study(graph: dict[str, int] = SAFE) -> Study:
    ids = [f"site-{i}" for i in range(14)]
    vkeys = {
        site: (
            NoteSigner.from_seed(site, seed_of(site)).vkey,
            NoteSigner.from_seed(site, seed_of(site + "/w"), algorithm=ALG_COSIGNATURE).vkey,
        )
        for site in ids
    }
    log = LogTerms(
        origin=ORIGIN,
        log_vkey=NoteSigner.from_seed(ORIGIN, seed_of("log")).vkey,
        coordinator_vkey=NoteSigner.from_seed("coordinator", seed_of("coordinator")).vkey,
    )
    overrides = {"secure_aggregation__graph": graph, "secure_aggregation__colluding_sites": 2}
    return make_study(ids, vkeys=vkeys, log=log, overrides=overrides)


@pytest.mark.parametrize("members", [3, 128])
def test_a_small_study_gets_the_complete_graph(members: int) -> None:
    assert with_graph(TINY, members=members, drop_percent=10) == TINY


def test_a_large_study_gets_the_least_graph_for_its_colluders_and_drop_outs() -> None:
    # R6.15.4
    found = with_graph(TINY, members=300, drop_percent=10).secure_aggregation.graph
    expected = least_graph(300, colluding=100, dropped=30)
    assert found is not None
    assert expected == GraphTerms(**found.model_dump())


def test_a_graph_that_the_profile_names_is_kept_and_a_complete_one_stays_complete() -> None:
    named = TINY.override(secure_aggregation__graph=SAFE)
    assert with_graph(named, members=300, drop_percent=10) == named
    assert with_graph(TINY, members=130, drop_percent=30).secure_aggregation.graph is None


def test_more_drop_outs_than_the_threshold_survives_are_refused() -> None:
    with pytest.raises(ConfigError, match="the threshold is 201"):
        with_graph(TINY, members=300, drop_percent=40)


def test_the_graph_stands_in_file_and_charter_and_the_law_reads_it(tmp_path: Path) -> None:
    study = sparse_study()
    study.write(tmp_path / "study.toml")
    assert Study.load(tmp_path) == study
    check_graph(study)
    assert graph_facts(study) == SAFE
    terms = CharterTerms.from_json(study.canonical_json())
    assert terms.graph is not None
    assert terms.graph._asdict() == SAFE


def test_without_a_graph_neither_file_nor_charter_mentions_one() -> None:
    study = make_study()
    check_graph(study)
    assert graph_facts(study) is None
    assert b"graph" not in study.canonical_json()


@pytest.mark.parametrize(
    "weak", [{**SAFE, "share_threshold": 6}, {**SAFE, "window_survivors": 2}, {**SAFE, "neighbours": 12}]
)
def test_a_weak_graph_is_refused(weak: dict[str, int]) -> None:
    # R6.15.2
    with pytest.raises(ConfigError, match=r"secure_aggregation\.graph: "):
        check_graph(sparse_study(weak))


def test_a_graph_beyond_the_members_is_refused_by_study_and_law() -> None:
    with pytest.raises(ConfigError, match=r"at most 12"):
        changed(sparse_study(), "secure_aggregation", graph={**SAFE, "neighbours": 14})
    good = sparse_study().canonical_json()
    for field, value in (
        ("neighbours", 14),
        ("neighbours", 9),
        ("share_threshold", 11),
        ("window_survivors", 6),
    ):
        bad = good.replace(f'"{field}":{SAFE[field]}'.encode(), f'"{field}":{value}'.encode())
        with pytest.raises(CharterError, match="no graph of 14 members"):
            CharterTerms.from_json(bad)
