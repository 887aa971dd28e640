"""Time stamps at the coordinator: asked of a real authority beside the rounds, never in their way."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.stamps import MAX_STAMP_BYTES, open_stamp, request_of
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.errors import TsaError
from fedmedlora_coordinator.reports import export_bundle, stamp_lacking, status
from fedmedlora_coordinator.settings import CoordinatorSettings, Stamps
from fedmedlora_coordinator.stamping import StampKeeper, TimeStamper, lacking_stamps, make_stamper, stamp_file
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.tsa import Answer, Authority, needs_openssl, serving
from fedmedlora_testkit.ward import Ward

pytestmark = needs_openssl


@pytest.fixture(autouse=True)
def _near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tsa") / "authority")


def settings_for(ward: Ward, authority: Authority, url: str) -> Stamps:
    """Name the authority in the coordinator's settings, as an operator does."""
    (ward.folder.root / "tsa.pem").write_bytes((authority.folder / "root.pem").read_bytes())
    text = ward.folder.config.read_text(encoding="utf-8")
    ward.folder.config.write_text(text.replace('tsa_url = ""', f'tsa_url = "{url}"'), encoding="utf-8")
    return CoordinatorSettings.load(ward.folder.config).stamps


@contextmanager
def keeping(ward: Ward, authority: Authority, answer: Answer) -> Iterator[StampKeeper]:
    """A keeper of stamps over a ward's log, with an authority that answers so."""
    with serving(answer) as url:
        settings = settings_for(ward, authority, url)
        yield StampKeeper(ward.ledger, ward.folder, TimeStamper(ward.folder, settings), settings)


def test_every_closed_round_gets_its_stamp_and_the_bundle_carries_them(
    tmp_path: Path, authority: Authority
) -> None:
    ward = Ward(tmp_path, rounds=2)
    with keeping(ward, authority, authority.reply) as keeper:
        ward.run(lambda state: len(state.closed_rounds) == 1)
        assert asyncio.run(keeper.catch_up())
        ward.run()
        assert asyncio.run(keeper.catch_up())
    sizes = [e.index + 1 for e in ward.ledger.entries if e.event.type == "round.closed"]
    assert sorted(path.name for path in ward.folder.stamps.iterdir()) == sorted(f"{s}.tsr" for s in sizes)
    for size in sizes:
        head = Checkpoint(ward.terms.origin, size, ward.ledger.state.tree.root(size))
        open_stamp(stamp_file(ward.folder, size).read_bytes(), head, [authority.root])
    found = status(ward.folder.root)
    assert (found["time_stamps"], found["unstamped_rounds"]) == ("2 of 2 closed rounds are stamped", [])
    export_bundle(ward.folder.root, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "stamps" / f"{sizes[0]}.tsr").is_file()
    genesis = ward.ledger.entries[0].leaf
    trust = Trust.from_terms(ward.terms, genesis=genesis, tsa_roots=[authority.root])
    check = verify_bundle(tmp_path / "bundle", trust).checks["C7"]
    # The ward's clock is the test's, not the world's: the stamps hold and are not of its time.
    assert check.count == 2


def test_without_an_authority_stamps_are_skipped_and_status_says_so(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run()
    assert make_stamper(ward.folder, ward.settings.stamps) is None
    found = status(ward.folder.root)
    assert str(found["time_stamps"]).startswith("skipped: no authority is named")
    assert found["unstamped_rounds"] == [1]
    with pytest.raises(ConfigError, match="no time-stamping authority"):
        stamp_lacking(ward.folder.root)


def test_an_authority_that_is_down_delays_nothing_and_is_asked_again(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    ward = Ward(tmp_path, rounds=2)
    with serving(authority.reply) as url:
        pass  # nobody listens there any more
    settings = settings_for(ward, authority, url)
    keeper = StampKeeper(ward.ledger, ward.folder, TimeStamper(ward.folder, settings), settings)
    ward.run(lambda state: len(state.closed_rounds) == 1)
    assert not asyncio.run(keeper.catch_up())
    assert "round 1 has no time stamp yet" in caplog.text
    ward.run()
    found = status(ward.folder.root)
    assert (found["run_closed"], found["unstamped_rounds"]) == (True, [1, 2])
    assert "no answer" in str(stamp_lacking(ward.folder.root)["problem"])
    with serving(authority.reply) as again:
        settings_for(ward, authority, again)
        text = ward.folder.config.read_text(encoding="utf-8")
        ward.folder.config.write_text(text.replace(url, again), encoding="utf-8")
        assert stamp_lacking(ward.folder.root) == {
            "time_stamps": "2 of 2 closed rounds are stamped",
            "unstamped_rounds": [],
            "problem": None,
        }


def test_the_keeper_stamps_while_the_study_goes_on(tmp_path: Path, authority: Authority) -> None:
    ward = Ward(tmp_path, rounds=1)

    async def play() -> None:
        with keeping(ward, authority, authority.reply) as keeper:
            task = asyncio.create_task(keeper.run())
            while not ward.ledger.state.run_closed:
                await ward._turn(lambda state: False)
                await asyncio.sleep(0)
            while lacking_stamps(ward.folder, ward.ledger.entries):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(play(), 30))
    assert status(ward.folder.root)["unstamped_rounds"] == []


def replies_with_another_nonce(authority: Authority) -> Answer:
    """Answer with an older stamp over the very head that is asked for."""

    def answer(query: bytes) -> bytes:
        head = Checkpoint("origin", 3, bytes(32))
        return authority.reply(request_of(head)[0])

    return answer


WRONG: dict[str, tuple[str, object]] = {
    "another_nonce": ("Nonce mismatch", replies_with_another_nonce),
    "unknown_authority": ("does not hold", None),
    "no_stamp": ("not a time stamp", lambda authority: lambda query: b"<html>"),
    "too_large": ("more than", lambda authority: lambda query: bytes(MAX_STAMP_BYTES + 1)),
    "refusal": ("stamp", lambda authority: lambda query: authority.reply(b"nonsense")),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_answer_that_is_no_stamp_over_this_head_is_not_kept(
    case: str, tmp_path: Path, authority: Authority
) -> None:
    sentence, make = WRONG[case]
    answer = Authority(tmp_path / "other").reply if make is None else make(authority)  # type: ignore[operator]
    ward = Ward(tmp_path / "ward", rounds=1)
    with serving(answer) as url:
        stamper = TimeStamper(ward.folder, settings_for(ward, authority, url))
        with pytest.raises(TsaError, match=sentence):
            stamper.stamp(Checkpoint("origin", 3, bytes(32)))
    assert not ward.folder.stamps.exists()


def test_an_http_error_is_no_answer(tmp_path: Path, authority: Authority) -> None:
    ward = Ward(tmp_path, rounds=1)
    with serving(lambda query: b"", status=503) as url:
        stamper = TimeStamper(ward.folder, settings_for(ward, authority, url))
        with pytest.raises(TsaError, match="no answer"):
            stamper.stamp(Checkpoint("origin", 3, bytes(32)))


def test_settings_that_cannot_work_are_refused_before_the_study(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = Ward(tmp_path, rounds=1)
    settings = settings_for(ward, authority, "http://127.0.0.1:9/")
    pem = ward.folder.root / "tsa.pem"
    pem.write_bytes(b"no certificate")
    with pytest.raises(ConfigError, match="not PEM"):
        TimeStamper(ward.folder, settings)
    pem.unlink()
    with pytest.raises(ConfigError, match="no certificates"):
        TimeStamper(ward.folder, settings)
    pem.write_bytes((authority.folder / "root.pem").read_bytes())
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    with pytest.raises(ConfigError, match="'stamps' extra"):
        TimeStamper(ward.folder, settings)
    with pytest.raises(ValueError, match="tsa_url"):
        Stamps(tsa_url="file:///etc/passwd")
