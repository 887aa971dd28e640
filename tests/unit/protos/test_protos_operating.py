"""What a process shows of itself: a closed catalogue of log events, a local page, vital signs."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry, Gauge

from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.operating.live_file import FRESH_SECONDS, ailments, is_running, read_live, write_live
from fedmedlora_protos.operating.local_page import LocalPage, split_listen
from fedmedlora_protos.operating.logbook import (
    CATALOGUE,
    FIELDS,
    JsonLines,
    Sentences,
    configure,
    place_of,
    tell,
)
from fedmedlora_protos.operating.vitals import (
    PROBE_SECONDS,
    STALLED_SECONDS,
    ClockWatch,
    Disk,
    Health,
    WriteProbe,
    can_write,
    days_left,
)
from fedmedlora_testkit.repository import ROOT, parsed, sources

PATIENT = "Mrs. Canary, 54, chest pain"
LOG = logging.getLogger("fedmedlora_test")


@pytest.fixture
def _restored_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def shells() -> list[Path]:
    """The sources that may log, but for the module that does it for them."""
    roots = ("coordinator", "site", "protos")
    found = [path for path in sources() if path.relative_to(ROOT).parts[0] in roots]
    return [path for path in found if path.name != "logbook.py"]


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """Calls of a function in the sources of both parties."""
    found = []
    for path in shells():
        if "_LOG" not in path.read_text(encoding="utf-8"):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                found.append((path, node))
    return found


def test_every_line_that_is_logged_is_of_the_catalogue() -> None:
    told = set()
    for path, call in calls("tell"):
        assert ast.unparse(call.args[0]) == "_LOG", path
        names = [node.value for node in ast.walk(call.args[1]) if isinstance(node, ast.Constant)]
        spread = any(keyword.arg is None for keyword in call.keywords)
        for name in names:
            given = {keyword.arg for keyword in call.keywords if keyword.arg}
            fields = CATALOGUE[str(name)].fields
            assert given <= fields if spread else given == fields, (path, name)
        told |= set(names)
    told |= refusals()
    assert told == CATALOGUE.keys()


def refusals() -> set[str]:
    """The events that a log of refusals is told to write them as."""
    files = [path for path in shells() if path.name in ("peer_limits.py", "transport.py")]
    found = [node for path in files for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    named = [call for call in found if ast.unparse(call.func) in ("Door", "VersionGate")]
    return {str(call.args[0].value) for call in named if isinstance(call.args[0], ast.Constant)}


def test_nobody_logs_past_the_catalogue() -> None:
    for path in sources():
        if path.name == "logbook.py" or path.relative_to(ROOT).parts[0] not in (
            "coordinator",
            "site",
            "protos",
        ):
            continue
        found = re.findall(r"\b(?:_LOG|logging)\.(\w+)\(", path.read_text(encoding="utf-8"))
        assert set(found) <= {"getLogger"}, path


def test_every_field_has_an_alphabet() -> None:
    assert {field for kind in CATALOGUE.values() for field in kind.fields} == FIELDS.keys()


def test_a_line_is_one_json_object_of_known_fields(
    capsys: pytest.CaptureFixture[str], _restored_root: None
) -> None:
    configure("json")
    tell(LOG, "site_refused", site="site-a", step="upload", round=3, reason="wrong_digest")
    line = json.loads(capsys.readouterr().err)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "warning", "event": "site_refused", "site": "site-a", "step": "upload", "round": 3,
        "reason": "wrong_digest",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_text_gets_into_a_line(
    form: str, capsys: pytest.CaptureFixture[str], _restored_root: None
) -> None:
    configure("json" if form == "json" else "text")
    tell(LOG, "site_refused", site=PATIENT, step=PATIENT, round=None, reason=f"{PATIENT}\nroot: ok")
    try:
        raise ValueError(PATIENT)
    except ValueError as error:
        logging.getLogger("asyncio").exception("failed on %s", PATIENT)
        tell(LOG, "call_failed", error=type(error).__name__, place=place_of(error))
    logging.getLogger("sqlalchemy.engine").info("SELECT '%s'", PATIENT)
    said = capsys.readouterr().err
    assert "Canary" not in said and "chest" not in said
    assert said.count("\n") == 3  # of another library's lines, the warning alone
    assert "ValueError" in said and "test_protos_operating.py" in said and "asyncio" in said


def test_an_event_that_the_catalogue_lacks_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="catalogue"):
        tell(LOG, "patient_seen", site="site-a")
    with pytest.raises(ValueError, match="catalogue"):
        tell(LOG, "site_came", site="site-a", detail=PATIENT)


def test_a_log_file_is_the_operators_alone_and_may_be_rotated(tmp_path: Path, _restored_root: None) -> None:
    file = tmp_path / "site.log"
    configure("text", file)
    tell(LOG, "connected", address="fl.example:7443")
    file.rename(tmp_path / "site.log.1")
    tell(LOG, "connection_lost", address="fl.example:7443")
    assert "connected to fl.example:7443" in (tmp_path / "site.log.1").read_text()
    assert "is away" in file.read_text()
    assert (tmp_path / "site.log.1").stat().st_mode & 0o777 == 0o600
    for handler in logging.getLogger().handlers:
        handler.close()


def test_both_formats_say_the_same_event() -> None:
    record = LOG.makeRecord(
        "fedmedlora_test", logging.INFO, "x", 1, "round 2 is closed", (), None,
        extra={"fedmedlora_event": "round_closed", "fedmedlora_fields": {"round": 2}},
    )  # fmt: skip
    assert json.loads(JsonLines().format(record))["event"] == "round_closed"
    assert Sentences().format(record).endswith("info: round 2 is closed")


# -- vital signs


def test_a_loop_that_stands_still_is_neither_ready_nor_alive() -> None:
    now = 0.0
    health = Health(lambda: now)
    assert (health.stalled(), health.problems()) == ((), ("starting",))
    health.beat([])
    assert health.problems() == ()
    now = STALLED_SECONDS
    assert health.stalled() == health.problems() == ("stalled",)
    health.excuse("store")
    now = 100 * STALLED_SECONDS
    assert (health.stalled(), health.problems()) == ((), ("store",))
    health.beat(["disk_full"])
    assert (health.stalled(), health.problems()) == ((), ("disk_full",))


def test_a_clock_that_jumps_is_noticed_either_way_and_slow_drift_is_not() -> None:
    times = iter([(1000.0, 0.0), (1002.1, 2.0), (1304.0, 4.0), (1306.0, 6.0), (1000.0, 8.0)])
    now = (0.0, 0.0)
    watch = ClockWatch(lambda: now[0], lambda: now[1])
    found = []
    for now in times:  # noqa: B007 - read by the clocks
        found.append(watch.look())
    assert found == [0.0, 0.0, 299.9, 0.0, -308.0]
    assert watch.jumps == 2


def test_a_disk_is_full_read_only_or_well(tmp_path: Path) -> None:
    found = Disk.of(tmp_path)
    assert 0 < found.free < found.total
    assert Disk(1 << 20, 1 << 40, False).problems() == ("disk_full",)
    assert Disk(1 << 40, 1 << 40, True).problems() == ("read_only",)
    assert can_write(tmp_path) and list(tmp_path.iterdir()) == []
    assert not can_write(tmp_path / "gone")


def test_a_probe_that_is_asked_often_asks_the_disk_seldom(tmp_path: Path) -> None:
    now, folder = 0.0, tmp_path / "state"
    probe = WriteProbe(folder, lambda: now)
    assert not probe()
    folder.mkdir()
    now = PROBE_SECONDS - 0.1
    assert not probe()
    now = PROBE_SECONDS
    assert probe()


def test_days_of_a_certificate(tmp_path: Path) -> None:
    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "c")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=40)).sign(key, None)
    )  # fmt: skip
    path = tmp_path / "c.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    assert days_left(path, (now + timedelta(days=10)).timestamp()) == 30.0
    assert days_left(path, (now + timedelta(days=41)).timestamp()) == -1.0
    path.write_text("no certificate")
    assert days_left(path) is days_left(tmp_path / "none.pem") is None


def test_the_live_file_tells_a_process_from_what_it_left(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    assert (read_live(path), ailments(path), is_running(None)) == (None, ["not_running"], False)
    write_live(path, {"step": "upload", "problems": []})
    found = read_live(path)
    assert found is not None and found["fresh"] and found["step"] == "upload" and is_running(found)
    assert path.stat().st_mode & 0o777 == 0o600 and ailments(path) == []
    path.write_text(json.dumps({**found, "at": found["at"] - 2 * FRESH_SECONDS}))
    old = read_live(path)
    assert not is_running(old) and ailments(path) == ["silent"]
    write_live(path, {"problems": ["stopping"]})
    assert not is_running(read_live(path)) and ailments(path) == ["stopping"]
    path.write_text("{")
    assert read_live(path) is None
    write_live(tmp_path / "gone" / "live.json", {})  # a disk that refuses is no error


# -- the local page


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of the answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_page_shows_metrics_and_answers_probes_while_a_client_says_nothing() -> None:
    registry, health = CollectorRegistry(), Health()
    Gauge("fedmedlora_x", "x", registry=registry).set(7)
    answers = [True, False]
    with (
        LocalPage(str(free_port()), registry, health, lambda: answers.pop(0)) as page,
        socket.create_connection(("127.0.0.1", page.port)),
    ):
        assert get(page.port, "/healthz") == (200, "ok\n")
        assert get(page.port, "/readyz") == (503, "starting\n")
        health.beat([])
        assert get(page.port, "/readyz") == (200, "ok\n")
        assert get(page.port, "/readyz") == (503, "read_only\n")
        status, text = get(page.port, "/metrics")
        assert status == 200 and "fedmedlora_x 7.0" in text
        assert get(page.port, "/etc/passwd")[0] == 404
        assert get(page.port, "/metrics", "POST")[0] == 405
        with pytest.raises(ConfigError, match="cannot listen"):
            LocalPage(str(page.port), registry, health)


def test_without_a_port_nothing_listens() -> None:
    with LocalPage("", CollectorRegistry(), Health()) as page:
        assert page.port == 0


def test_a_port_alone_is_on_this_machine_and_another_address_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert split_listen("9464") == ("127.0.0.1", 9464)
    assert split_listen("0.0.0.0:9464") == ("0.0.0.0", 9464)  # noqa: S104 - what an operator may write
    assert split_listen("[::1]:9464") == ("::1", 9464)
    for wrong in ("", "x", "0", "70000", "host:", "a b:1", "127.0.0.1"):
        with pytest.raises(ValueError, match="PORT"):
            split_listen(wrong)
    caplog.set_level(logging.INFO)
    with LocalPage(f"0.0.0.0:{free_port()}", CollectorRegistry(), Health()):
        pass
    assert [getattr(record, "fedmedlora_event", "") for record in caplog.records] == ["page_exposed"]


def test_the_sources_are_found() -> None:
    assert len(calls("tell")) > 25 and os.environ["GRPC_VERBOSITY"]
