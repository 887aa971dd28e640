"""What a running federation shows: scrapes, log lines and status hold no note, size, weight or loss."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedmedlora_coordinator import watching
from fedmedlora_core.records import write_notes
from fedmedlora_protos import wire
from fedmedlora_protos.operating.local_page import MetricsSection
from fedmedlora_site import watching as site_watching
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.training import training_seed
from fedmedlora_testkit.rehearsal import Federation, finish, free_port, plain_notes

from grpc_health.v1 import health_pb2, health_pb2_grpc  # isort: skip - after fedmedlora_protos: it imports grpc

# isort: split
import grpc

pytestmark = pytest.mark.slow
IDS = ("site-a", "site-b", "site-c")
NOTES = 10_007  # a number that nothing else has


def scrape(port: int, path: str = "/metrics") -> str:
    """What the page says, or nothing while it is not there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def serve(federation: Federation, party: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a party as its operator does, with log lines as JSON in a file of their own."""
    log = federation.root / f"{party}.jsonl"
    command = [sys.executable, "-m", "fedmedlora_cli", *arguments, "--log-format", "json"]
    return subprocess.Popen([*command, "--log-file", str(log), "--progress"], stdout=subprocess.DEVNULL)


def health_of(federation: Federation, *, with_certificate: bool) -> str:
    """Ask gRPC's health service as a probe with a site's certificate does, or with none."""
    folder = federation.site_root("site-a")
    ca = (folder / "tls" / "ca.pem").read_bytes()
    key, certificate = (folder / "keys" / "tls.key").read_bytes(), (folder / "tls" / "cert.pem").read_bytes()
    given = grpc.ssl_channel_credentials(ca, *((key, certificate) if with_certificate else ()))
    address = SiteConfig.load(folder / "site.toml").site.coordinator_address
    options = [("grpc.ssl_target_name_override", wire.SERVER_NAME)]
    with grpc.secure_channel(address, given, options=options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="fedmedlora.v1.Federation"), timeout=10
            )
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def secrets_of(federation: Federation, site: str) -> set[str]:
    """What nobody may read of a site: its notes' words, and its size, weight and loss as numbers."""
    seed = training_seed(federation.study.study.seed, site, 1)
    generator = np.random.Generator(np.random.PCG64(seed))
    generator.normal(0.0, 0.004, federation.study.adapter.dimension)
    loss = float(generator.uniform(0.2, 0.6))
    weight = federation.study.weight_rule().weight_of(n_notes=NOTES, loss=loss)
    return {"Canary", "chest", "pain", f"{site}-patient-1", str(NOTES), str(weight), f"{loss:.4f}"}


def words(text: str) -> set[str]:
    """Words and numbers of a text; a number also as scrapes write whole ones, and cut to four places."""
    found = set(re.findall(r"[A-Za-z0-9_.-]+", text))
    numbers = {word for word in found if re.fullmatch(r"\d+\.\d+", word)}
    return found | {word.removesuffix(".0") for word in numbers} | {f"{float(w):.4f}" for w in numbers}


def test_what_must_not_be_shown_would_be_found() -> None:
    assert {"10007", "0.3877"} <= words("fedmedlora_site_x 10007.0\nfedmedlora_site_y 0.38772")


def test_a_federation_is_seen_and_nothing_of_a_hospital_is(tmp_path: Path) -> None:
    federation = Federation.build(tmp_path, ids=IDS, rounds=1)
    ports = {party: free_port() for party in ("coordinator", *IDS)}
    settings = federation.coordinator_root / "coordinator.toml"
    text = settings.read_text().replace(
        '[metrics]\nlisten = ""', f'[metrics]\nlisten = "{ports["coordinator"]}"'
    )
    settings.write_text(text)
    for site in IDS:
        root = federation.site_root(site)
        write_notes(root / "data" / "notes.jsonl", plain_notes(site, NOTES))
        listen = MetricsSection(listen=str(ports[site]))
        SiteConfig.load(root / "site.toml").model_copy(update={"metrics": listen}).write(root / "site.toml")
    centre = serve(
        federation, "coordinator", "coordinator", "serve", "--dir", str(federation.coordinator_root),
        "--study", str(federation.package), "--until-closed",
    )  # fmt: skip
    pages: dict[str, list[str]] = {party: [] for party in ports}
    while scrape(ports["coordinator"], "/readyz") != "ok\n":
        assert centre.poll() is None
    assert health_of(federation, with_certificate=True) == "SERVING"
    assert health_of(federation, with_certificate=False) == "UNAVAILABLE"
    sites = [serve(federation, site, "site", "run", "--dir", str(federation.site_root(site))) for site in IDS]
    while centre.poll() is None:
        for party, port in ports.items():
            if page := scrape(port):
                pages[party].append(page)
        with_status = watching.live(federation.coordinator_root)
        pages["coordinator"].append(json.dumps(with_status))
        try:
            centre.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    assert [finish(process) for process in (*sites, centre)] == [0] * 4
    check_what_was_shown(federation, pages)


def check_what_was_shown(federation: Federation, pages: dict[str, list[str]]) -> None:
    scrapes = [page for party in pages for page in pages[party] if page.startswith("# HELP")]
    assert len(scrapes) > 4 and all(pages[party] for party in pages)
    for page in scrapes:
        assert list(text_string_to_metric_families(page))
    last = [page for page in pages["coordinator"] if page.startswith("# HELP")][-1]
    assert re.search(r'^fedmedlora_coordinator_calls_total\{method="Check",status="OK"\} 1\.0$', last, re.M)
    assert re.search(r'calls_total\{method="Submit",status="OK"\} [1-9]', last)
    assert re.search(r'traffic_bytes_total\{direction="in",kind="payloads"\} [1-9]', last)
    lines = {
        party: [json.loads(line) for line in (federation.root / f"{party}.jsonl").read_text().splitlines()]
        for party in pages
    }
    told = {party: {line["event"] for line in found} for party, found in lines.items()}
    assert {"page_open", "serving", "site_came", "round_planned", "round_closed", "study_closed"} <= told[
        "coordinator"
    ]
    for site in IDS:
        assert {"taking_part", "connected", "training_started", "training_done"} <= told[site]
        status = site_watching.look(federation.site_root(site))
        assert (status["rounds_closed"], status["running"], status["alarms"]) == (1, False, [])
        assert status["traffic"]["up"]["payloads"] > 0
    found = watching.look(federation.coordinator_root)
    assert (found["closed"], found["run_closed"], found["running"], found["alarms"]) == (1, True, False, [])
    ours = [line for page in scrapes for line in page.splitlines() if line.startswith("fedmedlora_")]
    everything = words("\n".join(ours) + json.dumps(lines) + json.dumps([found, status]))
    for site in IDS:
        assert not secrets_of(federation, site) & everything
