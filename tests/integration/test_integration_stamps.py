"""A study of real processes beside a real time-stamping authority, up and down."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_coordinator.reports import export_bundle, stamp_lacking, status
from fedmedlora_site import reports
from fedmedlora_testkit.rehearsal import Federation, finish
from fedmedlora_testkit.tsa import Authority, needs_openssl, serving

pytestmark = [pytest.mark.slow, needs_openssl]


@pytest.fixture(autouse=True)
def _near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def name_authority(federation: Federation, authority: Authority, url: str, before: str = "") -> None:
    """Put an authority into the coordinator's settings."""
    root = federation.coordinator_root
    (root / "tsa.pem").write_bytes((authority.folder / "root.pem").read_bytes())
    text = (root / "coordinator.toml").read_text(encoding="utf-8")
    changed = text.replace(f'tsa_url = "{before}"', f'tsa_url = "{url}"')
    (root / "coordinator.toml").write_text(changed, encoding="utf-8")


def run(federation: Federation) -> None:
    centre = federation.coordinator()
    sites = [federation.site(site) for site in federation.ids]
    assert [finish(process) for process in sites] == [0] * len(sites)
    assert finish(centre) == 0


def judge(federation: Federation, authority: Authority, folder: Path) -> Verdict:
    """Export at the coordinator, trust what a site pins and the authority hands out."""
    export_bundle(federation.coordinator_root, folder)
    trust = folder.with_suffix(".json")
    root = federation.site_root(federation.ids[0])
    reports.write_trust(root, trust, tsa_certificates=authority.folder / "root.pem")
    return verify_bundle(folder, Trust.load(trust))


def test_rounds_are_stamped_as_they_close_and_a_reviewer_sees_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    federation = Federation.build(tmp_path / "study")
    with serving(authority.reply) as url:
        name_authority(federation, authority, url)
        run(federation)
    found = status(federation.coordinator_root)
    assert (found["closed"], found["unstamped_rounds"]) == (2, [])
    verdict = judge(federation, authority, tmp_path / "bundle")
    assert verdict.verdict == "pass"
    assert verdict.checks["C7"].sentence == "2 of 2 closed rounds were stamped in time."
    assert verdict.checks["C7"].result == "pass"


def test_a_study_ends_without_its_authority_and_is_stamped_later(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    federation = Federation.build(tmp_path / "study")
    with serving(authority.reply) as dead:
        pass
    name_authority(federation, authority, dead)
    run(federation)
    found = status(federation.coordinator_root)
    assert (found["closed"], found["run_closed"], found["unstamped_rounds"]) == (2, True, [1, 2])
    assert judge(federation, authority, tmp_path / "before").checks["C7"].result == "not judged"
    with serving(authority.reply) as url:
        name_authority(federation, authority, url, before=dead)
        assert stamp_lacking(federation.coordinator_root)["unstamped_rounds"] == []
    assert judge(federation, authority, tmp_path / "after").checks["C7"].result == "pass"
