"""Cards and pins: whose keys a site believes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from fedmedlora_core.errors import ConfigError
from fedmedlora_site.config import SCHEMA, SiteConfig, SiteSection
from fedmedlora_site.errors import FolderError, PinError
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card, CoordinatorPins, PinnedKeys, Pins, add_cards

COORDINATOR = CoordinatorPins(
    log_vkey=Keystore.generate("log").event_signer.vkey,
    coordinator_vkey=Keystore.generate("coordinator").event_signer.vkey,
)
LOW_ORDER = "site-b+1c9dab11+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def card_of(site: str, keys: Keystore | None = None) -> Card:
    made = keys or Keystore.generate(site)
    return Card(id=site, event_vkey=made.event_signer.vkey, witness_vkey=made.witness_signer.vkey)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "site-a"
    root.mkdir()
    own = card_of("site-a")
    site = SiteSection(id="site-a", coordinator_address="127.0.0.1:1")
    SiteConfig(schema=SCHEMA, site=site).write(root / "site.toml")
    own.write(root / "card.toml")
    pinned = PinnedKeys(event_vkey=own.event_vkey, witness_vkey=own.witness_vkey)
    Pins(coordinator=COORDINATOR, members={"site-a": pinned}).write(root / "pins.toml")
    return root


def written(folder: Path, card: Card) -> Path:
    path = folder.parent / f"{card.id}.card.toml"
    card.write(path)
    return path


def test_cards_are_pinned(folder: Path) -> None:
    cards = [card_of("site-b"), card_of("site-c")]
    assert add_cards(folder, [written(folder, card) for card in cards]) == cards
    assert set(Pins.load(folder / "pins.toml").members) == {"site-a", "site-b", "site-c"}


def test_pinning_twice_is_harmless(folder: Path) -> None:
    path = written(folder, card_of("site-b"))
    add_cards(folder, [path])
    before = (folder / "pins.toml").read_bytes()
    add_cards(folder, [path])
    assert (folder / "pins.toml").read_bytes() == before


def test_other_keys_for_a_pinned_member_are_refused(folder: Path) -> None:
    add_cards(folder, [written(folder, card_of("site-b"))])
    before = (folder / "pins.toml").read_bytes()
    with pytest.raises(PinError, match="pinned with other keys"):
        add_cards(folder, [written(folder, card_of("site-c")), written(folder, card_of("site-b"))])
    assert (folder / "pins.toml").read_bytes() == before  # site-c was not half added


def test_one_key_under_two_names_is_refused(folder: Path) -> None:
    keys = Keystore.generate("site-b")
    add_cards(folder, [written(folder, card_of("site-b", keys))])
    with pytest.raises(PinError, match="another member"):
        add_cards(folder, [written(folder, card_of("site-c", keys))])


def test_a_coordinator_key_on_a_card_is_refused(folder: Path) -> None:
    card = card_of("site-b").model_copy(update={"event_vkey": COORDINATOR.log_vkey})
    with pytest.raises(PinError, match="another member or role"):
        add_cards(folder, [written(folder, card)])


def test_a_low_order_key_is_refused(folder: Path) -> None:
    table = card_of("site-b").model_dump(mode="json")
    path = folder.parent / "weak.toml"
    path.write_text(tomli_w.dumps({**table, "event_vkey": LOW_ORDER}))
    with pytest.raises(PinError, match="low-order"):
        add_cards(folder, [path])


@pytest.mark.parametrize("text", ["", "id = 'site-b'", "nonsense =", "id = 'Site B'"])
def test_what_is_no_card_is_refused(folder: Path, text: str) -> None:
    path = folder.parent / "bad.toml"
    path.write_text(text)
    with pytest.raises(PinError):
        add_cards(folder, [path])


def test_an_unknown_key_in_pins_names_the_nearest(folder: Path) -> None:
    text = (folder / "pins.toml").read_text()
    (folder / "pins.toml").write_text(text.replace("log_vkey", "log_key"))
    with pytest.raises(ConfigError, match="did you mean 'log_vkey'"):
        add_cards(folder, [])


def test_a_folder_that_is_no_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="not a site folder"):
        add_cards(tmp_path, [])


def test_fingerprints_tell_cards_apart() -> None:
    one, two = card_of("site-b"), card_of("site-b")
    assert one.fingerprint != two.fingerprint
    assert len(one.fingerprint.split()) == 8
