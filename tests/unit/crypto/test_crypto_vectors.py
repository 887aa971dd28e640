"""The committed vectors: every script plays again to the byte, and regenerating changes nothing."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from fedmedlora_crypto import errors, labels
from fedmedlora_crypto.hybrid import HybridKey
from fedmedlora_testkit.scripts import replay, terms_from

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
FOLDER = VECTORS / "secagg"
HYBRID = VECTORS / "secagg_hybrid"
FILES = sorted(FOLDER.rglob("*.json"))
CASES = [path for path in FILES if path.parent != FOLDER]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_secagg", VECTORS / "generate_secagg.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_regenerating_gives_the_committed_bytes(tmp_path: Path) -> None:
    generator().write(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert made == {path.relative_to(FOLDER): path.read_bytes() for path in FILES}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_script_plays_again(path: Path) -> None:
    case = json.loads(path.read_text())
    for script in case["scripts"]:
        assert replay(terms_from(case["terms"]), script) == script


@pytest.mark.parametrize("path", sorted((FOLDER / "rounds").iterdir()), ids=lambda path: path.stem)
def test_round_ends_in_the_plain_sum(path: Path) -> None:
    case = json.loads(path.read_text())
    assert case["scripts"][-1]["calls"][-1]["leaves"] == case["plain_sum"]
    assert not any("raises" in call for script in case["scripts"] for call in script["calls"])


@pytest.mark.parametrize("path", sorted((FOLDER / "refusals").iterdir()), ids=lambda path: path.stem)
def test_refusal_is_the_last_call_and_named(path: Path) -> None:
    (script,) = json.loads(path.read_text())["scripts"]
    *before, last = script["calls"]
    assert not any("raises" in call for call in before)
    if path.stem.endswith("survived"):
        assert last["returns"]["refused"] == {"3": "ShareCommitmentError"}
    else:
        assert issubclass(getattr(errors, last["raises"]["error"]), errors.CryptoError)


def test_every_refusal_of_a_peer_is_of_its_own_kind() -> None:
    # a lower-level error must not hide what a case is about: the defect decides the class
    found = {}
    for path in (FOLDER / "refusals").iterdir():
        (script,) = json.loads(path.read_text())["scripts"]
        found[path.stem] = script["calls"][-1].get("raises", {}).get("error")
    assert found == {
        "agree_before_masking": "StateError",
        "agree_named_twice": "DuplicateIndexError",
        "agree_second_set": "AlreadyAgreedError",
        "agree_short_survivors": "ShortSurvivorsError",
        "agree_stranger": "NotInRosterError",
        "agree_without_self": "NotIncludedError",
        "fix_before_sharing": "StateError",
        "fix_other_version": "MalformedError",
        "fix_own_shares_missing": "NotIncludedError",
        "fix_shares_of_another_session": "WrongSessionError",
        "fix_short_inbox": "ShortInboxError",
        "fix_split_view": "ViewError",
        "fix_stranger": "NotInRosterError",
        "fix_swapped_senders": "WrongSenderError",
        "fix_tampered_box": "SealedBoxError",
        "fix_truncated_shares": "MalformedError",
        "fix_wrong_commitment": "ShareCommitmentError",
        "late_shares": "LateFlightError",
        "mask_before_the_inbox": "StateError",
        "mask_second_vector": "MaskReusedError",
        "open_after_erasing": "LateFlightError",
        "open_before_agreeing": "StateError",
        "open_both_seeds": "BothSeedsError",
        "open_second_time": "AlreadyOpenedError",
        "open_short_signers": "ShortSurvivorsError",
        "open_signer_named_twice": "DuplicateIndexError",
        "open_signer_outside_the_survivors": "NotInRosterError",
        "share_copied_key": "DuplicateKeyError",
        "share_keys_of_another_sender": "MalformedKeyError",
        "share_keys_of_another_session": "MalformedKeyError",
        "share_keys_too_long": "MalformedKeyError",
        "share_low_order_key": "LowOrderKeyError",
        "share_one_key_for_both_purposes": "DuplicateKeyError",
        "share_own_keys_missing": "NotIncludedError",
        "share_reencoded_key": "MalformedKeyError",
        "share_short_roster": "ShortRosterError",
        "share_unreduced_key": "MalformedKeyError",
        "unmask_duplicate_key": "DuplicateKeyError",
        "unmask_short_inbox": "ShortInboxError",
        "unmask_short_survivors": "ShortSurvivorsError",
        "unmask_split_view": "ViewError",
        "unmask_survivor_without_shares": "NotInRosterError",
        "unmask_wrong_returned_share_survived": None,
        "unmask_wrong_returned_shares_below_threshold": "ShortOpeningsError",
    }


# The hybrid suite: wraps are drawn by the system, so one round was recorded; what reads it plays again.


@pytest.mark.parametrize("path", sorted(HYBRID.iterdir()), ids=lambda path: path.stem)
def test_recorded_hybrid_case_plays_again(path: Path) -> None:
    # R6.14.1, R6.14.4
    case = json.loads(path.read_text())
    for script in case["scripts"]:
        assert replay(terms_from(case["terms"]), script) == script
    last = case["scripts"][-1]["calls"][-1]
    if path.stem.startswith("round"):
        assert last["leaves"] == case["plain_sum"]
    for words in case.get("opened_wraps", ()):
        key = HybridKey(
            bytes.fromhex(words["seed"]),
            label=labels.MASK_KEY_SEED,
            kem_label=labels.MASK_KEM_SEED,
            sid=bytes.fromhex(case["terms"]["sid"]),
        )
        opened = key.unwrap(bytes.fromhex(words["wrap"]), bytes.fromhex(words["info"]), party=1)
        assert opened.hex() == words["secret"]


def test_every_recorded_hybrid_refusal_has_its_error() -> None:
    found = {}
    for path in HYBRID.glob("refuse_*.json"):
        last = json.loads(path.read_text())["scripts"][-1]["calls"][-1]
        found[path.stem] = last.get("raises", {}).get("error") or last["returns"][1]
    assert found == {
        "refuse_altered_wrap_for_a_dropped_party": "SealedBoxError",
        "refuse_copied_kem_half": {"3": "duplicate_key"},
        "refuse_kem_half_out_of_range": {"3": "malformed_key"},
        "refuse_shares_of_another_suite": "MalformedError",
        "refuse_wrap_missing": "MalformedError",
    }


def test_a_fresh_recording_of_the_hybrid_suite_plays_again() -> None:
    spec = importlib.util.spec_from_file_location("record_hybrid", VECTORS / "record_secagg_hybrid.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cases = module.cases()
    assert sorted(cases) == sorted(path.stem for path in HYBRID.iterdir())
    for case in cases.values():
        for script in case["scripts"]:
            assert replay(terms_from(case["terms"]), script) == script
