"""Cards and pins: whose keys this site believes, learnt by a route beside the coordinator (PROTOCOL §2.2).

A card is one member's public keys. It is handed over in person, by post or read out by telephone; the
coordinator, who runs the CA and the enrolment, could otherwise invent members. A pin is a card that this
site's operator has added. A study is accepted only if every member entry equals its pin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import Field

from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.note import VerifierKey
from fedmedlora_core.config import Section, load_toml
from fedmedlora_core.errors import ConfigError
from fedmedlora_site.durable import write_atomic
from fedmedlora_site.errors import PinError
from fedmedlora_site.folder import SiteFolder

SiteId = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
Vkey = Annotated[str, Field(min_length=40, max_length=256)]
WitnessVkey = Annotated[str, Field(min_length=40, max_length=2048)]


class Card(Section):
    """One member's public keys, as its operator hands them to the others.

    Attributes:
        id: The member's id.
        event_vkey: C2SP verifier key of its events.
        witness_vkey: C2SP verifier key of its cosignatures.
        annotated: The label types this site annotated; `site import` fills it, `study new` reads it.
    """

    id: SiteId
    event_vkey: Vkey
    witness_vkey: WitnessVkey
    annotated: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """What two operators compare by telephone: 32 hex digits in groups of four."""
        text = f"{self.id}\n{self.event_vkey}\n{self.witness_vkey}\n"
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        return " ".join(digest[i : i + 4] for i in range(0, 32, 4))

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card and check its keys.

        Raises:
            PinError: The file is not a card, or a key is malformed or of low order.
        """
        try:
            card = load_toml(path, cls)
        except ConfigError as exc:
            raise PinError(str(exc)) from None
        for key in (card.event_vkey, card.witness_vkey):
            try:
                VerifierKey.parse(key)
            except AuditError as exc:
                raise PinError(f"{path}: {exc}") from None
        return card

    def write(self, path: Path) -> None:
        """Write the card; it is public."""
        write_atomic(path, tomli_w.dumps(self.model_dump(mode="json", by_alias=True)).encode(), mode=0o644)


class PinnedKeys(Section):
    """The two keys of one member."""

    event_vkey: Vkey
    witness_vkey: WitnessVkey


class CoordinatorPins(Section):
    """The coordinator's keys, from the invitation."""

    log_vkey: Vkey
    coordinator_vkey: Vkey


class Pins(Section):
    """The site's `pins.toml`."""

    schema_: Literal["fedmedlora-pins/1"] = Field(default="fedmedlora-pins/1", alias="schema")
    coordinator: CoordinatorPins
    members: dict[SiteId, PinnedKeys]

    @classmethod
    def load(cls, path: Path) -> Pins:
        """Read `pins.toml`.

        Raises:
            ConfigError: The file is missing, not TOML, or has an unknown key.
        """
        return load_toml(path, cls)

    def write(self, path: Path) -> None:
        """Replace the file, all or nothing."""
        write_atomic(path, tomli_w.dumps(self.model_dump(mode="json", by_alias=True)).encode())

    def with_card(self, card: Card) -> Pins:
        """Return pins that hold `card` too.

        Raises:
            PinError: The member is pinned with other keys, or a key is pinned for somebody else.
        """
        keys = PinnedKeys(event_vkey=card.event_vkey, witness_vkey=card.witness_vkey)
        held = self.members.get(card.id)
        if held is not None and held != keys:
            raise PinError(
                f"'{card.id}' is pinned with other keys; if its operator confirms the change by another "
                "route, remove the old pin from pins.toml first"
            )
        others = {self.coordinator.log_vkey, self.coordinator.coordinator_vkey}
        for site, pin in self.members.items():
            if site != card.id:
                others |= {pin.event_vkey, pin.witness_vkey}
        if keys.event_vkey == keys.witness_vkey or others & {keys.event_vkey, keys.witness_vkey}:
            raise PinError(f"'{card.id}' shows a key that is pinned for another member or role")
        return self.model_copy(update={"members": {**self.members, card.id: keys}})


def add_cards(root: Path, cards: Sequence[Path]) -> list[Card]:
    """Pin the members of `cards`, all of them or none.

    Args:
        root: The site's folder.
        cards: Card files received from the other members.

    Returns:
        The cards, so that the operator can compare their fingerprints.

    Raises:
        PinError: A card is malformed or contradicts a pin; nothing was written.
        ConfigError: `pins.toml` is malformed.
    """
    folder = SiteFolder.open(root)
    pins = Pins.load(folder.pins)
    loaded = [Card.load(path) for path in cards]
    for card in loaded:
        pins = pins.with_card(card)
    pins.write(folder.pins)
    return loaded
