"""Every decoder of bytes or text from outside is fuzzed, or is listed here with the reason why not.

Which functions are decoders is found in the source; which of them are fuzzed, by running the fuzzers' own
seeds. So a new decoder fails here until a fuzzer reaches it.
"""

from __future__ import annotations

from functools import cache

import pytest

from fedmedlora_testkit.decoders import decoders, reached
from fedmedlora_testkit.fuzzing import DECODERS

OWN_FILE = "reads a file that this party itself wrote, in a folder that only its owner may write"
OPERATOR = "reads the operator's own settings or command line, by `load_toml` or a pattern of its own"
SHIPPED = "reads a file that comes with the package"
CHILD = "reads what a process of the same party writes into a pipe that only the two have"
HANDS_ON = "opens a file or a list and hands its content to a decoder that is fuzzed"
JUDGED = "reads again what a fuzzed decoder has read and judged"
MEMORY = "reads no outside bytes: arrays or values of this process, or tags of a closed set"
LIBRARY = "loads tensors by safetensors alone, of a folder whose digest the charter names"

EXCEPTIONS: dict[str, tuple[str, ...]] = {
    OWN_FILE: (
        "fedmedlora_coordinator/authority.py::Authority.load",
        "fedmedlora_coordinator/blobs.py::BlobStore.checked",
        "fedmedlora_coordinator/blobs.py::BlobStore.read",
        "fedmedlora_coordinator/enrolment_tables.py::_begins",
        "fedmedlora_coordinator/enrolment_tables.py::_serial",
        "fedmedlora_coordinator/enrolment_tables.py::record_certificate",
        "fedmedlora_coordinator/sealing.py::BlobSeal.open",
        "fedmedlora_coordinator/server_certificate.py::renew_server",
        "fedmedlora_coordinator/server_certificate.py::server_certificate",
        "fedmedlora_core/server_optimiser.py::OptimiserState.load",
        "fedmedlora_protos/operating/live_file.py::read_live",
        "fedmedlora_protos/operating/vitals.py::days_left",
        "fedmedlora_site/blobs.py::UploadFolder.open",
        "fedmedlora_site/clipping.py::ClippingRecord.__init__",
        "fedmedlora_site/custody.py::Custody.load",
        "fedmedlora_site/downloads.py::DownloadFolder.open",
        "fedmedlora_site/enrolment.py::_check_answer",
        "fedmedlora_site/enrolment.py::_prepare",
        "fedmedlora_site/folder.py::SiteFolder.open",
        "fedmedlora_site/holdings.py::Holdings.open",
        "fedmedlora_site/journal.py::Journal.__init__",
        "fedmedlora_site/keystore.py::Keystore.load",
        "fedmedlora_site/keystore.py::read_private",
        "fedmedlora_site/keystore.py::read_secret",
        "fedmedlora_site/ledger.py::Ledger._read_head",
        "fedmedlora_site/ledger.py::_parse",
        "fedmedlora_site/markers.py::Markers.__init__",
        "fedmedlora_site/pins.py::Pins.load",
        "fedmedlora_site/renewal.py::_renew_by_invitation",
        "fedmedlora_site/renewal.py::_take",
        "fedmedlora_site/server_check.py::server_problem",
        "fedmedlora_site/tls_identity.py::TlsIdentity.begins",
        "fedmedlora_site/tls_identity.py::TlsIdentity.ends",
        "fedmedlora_site/tls_identity.py::TlsIdentity.load",
        "fedmedlora_site/tls_identity.py::fits",
        "fedmedlora_site/tls_identity.py::settle",
        "fedmedlora_site/vault.py::Vault.load",
        "fedmedlora_site/vault.py::Vault.load_floats",
        "fedmedlora_site/vault.py::Vault.load_ring",
        "fedmedlora_site/witness.py::Witness._load",
    ),
    OPERATOR: (
        "fedmedlora_coordinator/faults.py::DieAt.parse",
        "fedmedlora_coordinator/postgres_database.py::read_password",
        "fedmedlora_coordinator/settings.py::CoordinatorSettings.load",
        "fedmedlora_coordinator/settings.py::PostgresAddress.parse",
        "fedmedlora_core/policy.py::SitePolicy.load",
        "fedmedlora_core/profile.py::Profile.load",
        "fedmedlora_site/config.py::SiteConfig.load",
        "fedmedlora_site/crew.py::Place.parse",
        "fedmedlora_site/faults.py::FaultPlan.parse",
    ),
    SHIPPED: (
        "fedmedlora_core/clinic/hospital.py::_read",
        "fedmedlora_core/clinic/hospital.py::load_hospital",
        "fedmedlora_core/clinic/template.py::parse_template",
    ),
    CHILD: (
        "fedmedlora_crypto/ckks/stream.py::open_sum",
        "fedmedlora_site/trainer.py::main",
        "fedmedlora_site/training.py::ProcessTrainer._converse",
    ),
    HANDS_ON: (
        "fedmedlora_audit/browsing.py::Browser.open",
        "fedmedlora_audit/opening.py::open_events",
        "fedmedlora_audit/packed_bundle.py::unpack",
        "fedmedlora_audit/trust.py::Trust.load",
        "fedmedlora_core/brat.py::read_brat",
        "fedmedlora_core/jsonl.py::read_jsonl",
        "fedmedlora_core/pubtator.py::read_pubtator",
        "fedmedlora_core/records.py::read_notes",
        "fedmedlora_core/sources.py::read_documents",
        "fedmedlora_site/ciphertexts.py::SumOpener.open",
        "fedmedlora_site/custody.py::read_context",
        "fedmedlora_site/importing.py::read_import",
    ),
    JUDGED: (
        "fedmedlora_audit/export/native.py::native_row",
        "fedmedlora_audit/export/record.py::read_records",
        "fedmedlora_crypto/ckks/keys.py::check_pair",
        "fedmedlora_site/session.py::LiveSession.open",
        "fedmedlora_site/summed.py::opened_sum",
    ),
    MEMORY: (
        "fedmedlora_coordinator/backup.py::_write",
        "fedmedlora_core/learning/checkpoint.py::snapshot",
        "fedmedlora_core/learning/lora.py::read_adapter",
        "fedmedlora_core/learning/private/self_test.py::PublicWords.reader",
        "fedmedlora_core/packing.py::_byte_planes",
        "fedmedlora_core/tasks/inline.py::open_tag",
        "fedmedlora_core/tasks/tagging.py::read_tags",
        "fedmedlora_core/tasks/templates.py::Template.read_entities",
        "fedmedlora_core/tasks/templates.py::Template.read_list",
    ),
    LIBRARY: ("fedmedlora_core/learning/base.py::load_base",),
}
LISTED = [name for names in EXCEPTIONS.values() for name in names]


@cache
def runs() -> dict[str, frozenset[str]]:
    """What each fuzzer runs."""
    return {name: frozenset(reached(decoder)) for name, decoder in DECODERS.items()}


def unfuzzed(*, without: str = "") -> set[str]:
    """Decoders that no fuzzer reaches; with one fuzzer left out, if named."""
    fuzzed = {name for fuzzer, names in runs().items() if fuzzer != without for name in names}
    return set(decoders()) - fuzzed


def test_every_decoder_is_fuzzed_or_has_a_reason_why_not() -> None:
    missing = unfuzzed() - set(LISTED)
    assert not missing, f"add a row to fuzzing.DECODERS for: {sorted(missing)}"


def test_every_exception_is_a_decoder_that_no_fuzzer_reaches() -> None:
    assert len(set(LISTED)) == len(LISTED)
    stale = set(LISTED) - unfuzzed()
    assert not stale, f"no exceptions any more: {sorted(stale)}"


def test_every_fuzzer_reaches_a_decoder() -> None:
    """The compressed streams, the chunks and the proofs have readers of other names."""
    idle = {name for name, names in runs().items() if not names & set(decoders())}
    assert idle <= {"inclusion-proof", "consistency-proof", "blob-chunk", "public-key", "hybrid-key", "wrap"}


@pytest.mark.parametrize(
    ("fuzzer", "decoder"),
    [
        ("wire-versions", "fedmedlora_protos/versions.py::parse_speaks"),
        ("invitation", "fedmedlora_site/enrolment.py::Invitation.load"),
        ("certificate-request", "fedmedlora_coordinator/enrolment.py::checked_csr"),
        ("stamp", "fedmedlora_audit/stamps.py::open_stamp"),
        ("fetched-journal", "fedmedlora_audit/heads.py::_judge_journal"),
    ],
)
def test_a_decoder_without_its_fuzzer_would_be_found(fuzzer: str, decoder: str) -> None:
    assert decoder not in unfuzzed()
    assert decoder in unfuzzed(without=fuzzer) - set(LISTED)
