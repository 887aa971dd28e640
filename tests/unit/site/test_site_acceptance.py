"""A study is accepted only as a whole, and a refusal writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.note import NoteSigner
from fedmedlora_core.errors import ConfigError, PolicyRefusal
from fedmedlora_core.study import LogTerms, Study
from fedmedlora_site.acceptance import accept, load_accepted
from fedmedlora_site.config import SCHEMA, SiteConfig, SiteSection, TrainerSection
from fedmedlora_site.errors import AcceptanceError, FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import CoordinatorPins, PinnedKeys, Pins
from fedmedlora_testkit.rehearsal import small_adapter
from fedmedlora_testkit.studies import make_study

IDS = ("site-a", "site-b", "site-c", "site-d")
LOG = NoteSigner.generate("test.example/log")
COORDINATOR = NoteSigner.generate("coordinator")
ADAPTER = small_adapter(24)


@dataclass
class Place:
    """One site's folder and a study package made for it."""

    root: Path
    package: Path
    keys: Mapping[str, Keystore]

    def propose(self, **changes: Any) -> Path:
        """Write a package; `changes` go to the study."""
        vkeys = {i: (k.event_signer.vkey, k.witness_signer.vkey) for i, k in self.keys.items()}
        log = LogTerms(origin=LOG.name, log_vkey=LOG.vkey, coordinator_vkey=COORDINATOR.vkey)
        fields: dict[str, Any] = {"vkeys": vkeys, "log": log, **changes}
        study = make_study(IDS, initial_digest=ADAPTER.digest, dimension=ADAPTER.dimension, **fields)
        shutil.rmtree(self.package, ignore_errors=True)
        study.write(self.package / "study.toml")
        ADAPTER.save(self.package / "initial")
        return self.package

    def listing(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.root)): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}

    def accept(self, package: Path) -> Study:
        return accept(self.root, package)

    def refused(self, package: Path, error: type[Exception] = AcceptanceError) -> str:
        """Accepting fails with one line and changes no file."""
        before = self.listing()
        with pytest.raises(error) as found:
            self.accept(package)
        assert self.listing() == before
        assert "\n" not in str(found.value)
        return str(found.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    keys = {site: Keystore.generate(site) for site in IDS}
    root = tmp_path / "site-a"
    root.mkdir()
    site = SiteSection(id="site-a", coordinator_address="127.0.0.1:1")
    trainer = TrainerSection(kind="rehearsal")
    SiteConfig(schema=SCHEMA, site=site, trainer=trainer).write(root / "site.toml")
    pinned = {
        i: PinnedKeys(event_vkey=k.event_signer.vkey, witness_vkey=k.witness_signer.vkey)
        for i, k in keys.items()
    }
    pins = CoordinatorPins(log_vkey=LOG.vkey, coordinator_vkey=COORDINATOR.vkey)
    Pins(coordinator=pins, members=pinned).write(root / "pins.toml")
    (root / "policy.toml").write_text("")
    return Place(root, tmp_path / "package", keys)


def test_an_honest_study_is_recorded(place: Place) -> None:
    study = place.accept(place.propose())
    recorded, terms = load_accepted(SiteFolder(place.root))
    assert recorded == study
    assert terms.digest == study.digest
    assert (place.root / "study" / "charter.json").read_bytes() == study.canonical_json()


def test_accepting_twice_is_harmless(place: Place) -> None:
    package = place.propose()
    place.accept(package)
    before = place.listing()
    place.accept(package)
    assert place.listing() == before


def test_another_study_may_replace_one_that_was_not_signed(place: Place) -> None:
    place.accept(place.propose())
    second = place.accept(place.propose(overrides={"training__rounds": 7}))
    assert load_accepted(SiteFolder(place.root))[0] == second


def test_another_study_is_refused_once_a_charter_was_signed(place: Place) -> None:
    place.accept(place.propose())
    outbox = place.root / "run" / "outbox"
    outbox.mkdir(parents=True)
    (outbox / "00000001.note").write_bytes(b"signed")
    assert "signed another charter" in place.refused(place.propose(overrides={"training__rounds": 7}))


@pytest.mark.parametrize("member", ["site-a", "site-c"])
def test_other_keys_for_a_member_are_refused(place: Place, member: str) -> None:
    # R2.2.1
    """The coordinator composes the study with a key of its own for a member: a site it invented."""
    place.keys = {**place.keys, member: Keystore.generate(member)}
    assert f"other keys for '{member}'" in place.refused(place.propose())


def test_without_the_pins_an_invented_member_would_be_accepted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.keys = {**place.keys, "site-c": Keystore.generate("site-c")}
    monkeypatch.setattr("fedmedlora_site.acceptance.check_members", lambda *_: None)
    place.accept(place.propose())


def test_a_member_without_a_pin_is_refused_by_name(place: Place) -> None:
    pins = Pins.load(place.root / "pins.toml")
    members = {site: pin for site, pin in pins.members.items() if site not in ("site-b", "site-d")}
    pins.model_copy(update={"members": members}).write(place.root / "pins.toml")
    assert "no pin for site-b, site-d" in place.refused(place.propose())


def test_other_coordinator_keys_are_refused(place: Place) -> None:
    other = NoteSigner.generate(LOG.name)
    log = LogTerms(origin=LOG.name, log_vkey=other.vkey, coordinator_vkey=COORDINATOR.vkey)
    assert "invitation" in place.refused(place.propose(log=log))


def test_a_study_without_this_site_is_refused(place: Place) -> None:
    config = SiteConfig.load(place.root / "site.toml")
    site = SiteSection(id="site-z", coordinator_address="127.0.0.1:1")
    config.model_copy(update={"site": site}).write(place.root / "site.toml")
    assert "not a member" in place.refused(place.propose())


def test_another_initial_adapter_is_refused(place: Place) -> None:
    package = place.propose()
    small_adapter(24, seed=9).save(package / "initial")
    assert "not the initial adapter" in place.refused(package)


def test_another_base_model_is_refused(place: Place) -> None:
    config = SiteConfig.load(place.root / "site.toml")
    config.model_copy(update={"trainer": TrainerSection()}).write(place.root / "site.toml")
    assert "the study names 111111111111" in place.refused(place.propose())


def test_a_missing_base_model_is_refused(place: Place, tmp_path: Path) -> None:
    config = SiteConfig.load(place.root / "site.toml")
    config.model_copy(update={"trainer": TrainerSection()}).write(place.root / "site.toml")
    package = place.propose()
    with pytest.raises(ConfigError, match="not a folder with a base model"):
        accept(place.root, package, base=tmp_path / "nowhere")
    assert not (place.root / "study").exists()


@pytest.mark.parametrize(
    ("policy", "changes", "sentence"),
    [
        ("", {"overrides": {"secure_aggregation__mode": "none"}}, "requires secure aggregation"),
        ("max_rounds = 1", {"overrides": {"training__rounds": 2}}, "allows 1"),
        ("studies = ['other']", {}, "not in this site's list of studies"),
        (f"base_models = ['{'2' * 64}']", {}, "not in this site's list"),
        ("min_sites = 5", {}, "requires 5"),
        ("min_colluding_sites = 2", {}, "requires 2"),
    ],
)
def test_the_policy_refuses(place: Place, policy: str, changes: dict[str, Any], sentence: str) -> None:
    (place.root / "policy.toml").write_text(policy)
    assert sentence in place.refused(place.propose(**changes), PolicyRefusal)


def test_an_unknown_policy_key_names_the_nearest(place: Place) -> None:
    (place.root / "policy.toml").write_text("max_round = 5")
    assert "did you mean 'max_rounds'" in place.refused(place.propose(), ConfigError)


def test_an_unknown_key_in_site_toml_names_the_nearest(place: Place) -> None:
    path = place.root / "site.toml"
    path.write_text(path.read_text().replace("ready_slot_seconds", "ready_slots"))
    assert "did you mean 'ready_slot_seconds'" in place.refused(place.propose(), ConfigError)


def test_a_package_that_is_none_is_refused(place: Place, tmp_path: Path) -> None:
    assert "study package" in place.refused(tmp_path / "nothing", ConfigError)


def test_a_charter_changed_on_disk_is_noticed(place: Place) -> None:
    place.accept(place.propose())
    path = place.root / "study" / "charter.json"
    path.write_bytes(path.read_bytes().replace(b'"rounds":', b'"rounds": '))
    with pytest.raises(FolderError):
        load_accepted(SiteFolder(place.root))


def test_without_a_study_the_agent_is_told_what_to_do(place: Place) -> None:
    with pytest.raises(FolderError, match="site accept"):
        load_accepted(SiteFolder(place.root))


def test_a_charter_whose_noise_costs_more_than_it_says_is_refused(place: Place) -> None:
    # R4.14.6
    noise = {
        "aggregation__size_exponent_milli": 0,
        "secure_aggregation__clip_norm_micro": 1_000_000,
        "secure_aggregation__wire_bits": 32,
        "training__rounds": 3,
        "site_noise__delta": "1e-5",
        "site_noise__epsilon_milli": 8000,
        "site_noise__value_bits": 20,
    }
    weak = place.propose(overrides={**noise, "site_noise__noise_milli": 4000})
    assert "over its own budget" in place.refused(weak)
    study = place.accept(place.propose(overrides={**noise, "site_noise__noise_milli": 2_000_000}))
    assert study.site_noise is not None
