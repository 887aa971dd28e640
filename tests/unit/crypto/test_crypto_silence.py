"""No secret shows: not in the text of any object, not in an error or its chain, not in a log record."""

from __future__ import annotations

import logging
import pkgutil
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

import fedmedlora_crypto
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, Party, run_round
from fedmedlora_crypto.secagg.messages import OpenedMessage
from fedmedlora_crypto.secagg.reference import repeatable_source
from fedmedlora_crypto.xof import Keystream
from fedmedlora_testkit.adversary import SECRET_ATTACKS
from fedmedlora_testkit.secagg import Ward, terms_of, vectors_of


class Watch:
    """Remembers every secret that parties draw and hold."""

    def __init__(self) -> None:
        self.secrets: set[bytes] = set()
        self.classes: set[str] = set()

    def source(self, party: int) -> Callable[[int], bytes]:
        draw = repeatable_source(bytes([party]))

        def drawn(size: int) -> bytes:
            value = draw(size)
            self.secrets.add(value)
            return value

        return drawn

    def learn(self, root: object) -> list[object]:
        """Walk what an object holds; note its secrets and return the objects of this package."""
        seen: dict[int, object] = {}
        for value in walk(root, seen):
            if isinstance(value, Keystream):
                self.secrets.add(value._key)
            if isinstance(value, Party):
                for shares in value._held.values():
                    self.secrets.update(shares.values())
            if isinstance(value, OpenedMessage):
                self.secrets.update(value.shares)
        found = [v for v in seen.values() if type(v).__module__.startswith("fedmedlora_crypto")]
        self.classes |= {type(v).__name__ for v in found}
        return found

    def shown(self, text: str) -> list[bytes]:
        """Secrets that a text gives away, in hex, as Python writes bytes, or as a number."""
        return [
            secret
            for secret in self.secrets
            if any(
                form in text
                for form in (secret.hex(), repr(secret)[2:-1], str(int.from_bytes(secret, "big")))
            )
        ]


def walk(value: object, seen: dict[int, object]) -> Iterator[object]:
    """Everything that can be reached through attributes, slots and containers."""
    if id(value) in seen or isinstance(value, str | bytes | int | float | type | None):
        return
    seen[id(value)] = value
    yield value
    inner: list[Any] = list(vars(value).values()) if hasattr(value, "__dict__") else []
    for cls in type(value).__mro__:
        slots = getattr(cls, "__slots__", ())
        inner += [getattr(value, name) for name in slots if hasattr(value, name)]
    if isinstance(value, dict):
        inner += list(value.values())
    elif isinstance(value, list | tuple | set):
        inner += list(value)
    for each in inner:
        yield from walk(each, seen)


def watched(suite: str) -> tuple[Watch, Ward]:
    watch, ward = Watch(), Ward(4, suite=suite)
    ward.parties = {i: Party(ward.terms, i, randomness=watch.source(i)) for i in ward.parties}
    return watch, ward


@pytest.mark.parametrize("suite", [MASKED_SUITE, HYBRID_SUITE])
def test_no_object_shows_a_secret_at_any_step(suite: str, caplog: pytest.LogCaptureFixture) -> None:
    # R6.13.2
    caplog.set_level(logging.DEBUG)
    watch, ward = watched(suite)

    def fix() -> None:
        for party in ward.parties.values():
            party.fix(ward.shares)

    def mask() -> None:
        ward.masked = vectors_of(ward.parties)
        for i, party in ward.parties.items():
            party.mask(ward.masked[i])

    for step in (ward.advertise, ward.share, fix, mask, ward.agree, ward.open):
        step()
        for found in watch.learn(ward):
            text = f"{found!r} {found} {found:}"
            assert not watch.shown(text), (step.__name__, type(found).__name__)
    total = ward.total()
    assert not watch.shown(repr(ward.unmask(total)))
    assert {"Party", "Dealer", "Keystream", "Roster", "SessionTerms"} <= watch.classes
    assert len(watch.secrets) > 30
    assert not watch.shown(caplog.text)


def test_a_talkative_class_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keystream, "__repr__", lambda self: f"Keystream({self._key.hex()})")
    watch, ward = watched(MASKED_SUITE)
    ward.advertise()
    ward.share()
    ward.parties[1].fix(ward.shares)
    assert any(watch.shown(repr(found)) for found in watch.learn(ward))


def test_a_whole_round_is_silent() -> None:
    watch = Watch()
    sources = {i: watch.source(i) for i in range(1, 5)}
    result = run_round(terms_of(4, suite=HYBRID_SUITE), vectors_of(range(1, 5)), randomness=sources)
    assert not watch.shown(repr(result))


@pytest.mark.parametrize("name", [n for n, entry in SECRET_ATTACKS.items() if entry.error is not None])
def test_no_error_of_an_attack_carries_a_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # R6.13.2: message, arguments, notes and the whole chain
    watch = Watch()
    honest = Party.__init__

    def watched_init(self: Party, terms: Any, index: int, *, randomness: Any, **more: Any) -> None:
        def drawn(size: int) -> bytes:
            value: bytes = randomness(size)
            watch.secrets.add(value)
            return value

        honest(self, terms, index, randomness=drawn, **more)

    monkeypatch.setattr(Party, "__init__", watched_init)
    with pytest.raises(CryptoError) as caught:
        SECRET_ATTACKS[name].play()
    error = caught.value
    text = "".join(traceback.format_exception(error)) + repr(error.args) + repr(vars(error))
    assert watch.secrets
    assert not watch.shown(text)
    assert error.__cause__ is None
    assert len(str(error)) < 200


def test_every_class_of_the_package_with_a_secret_has_a_text_of_its_own() -> None:
    """A dataclass would show all of its fields: those that hold secrets say so, or write their own text."""
    quiet = {"AgreementKey", "HybridKey", "Keystream", "Dealer", "Party"}
    modules = [
        import_module(info.name)
        for info in pkgutil.walk_packages(fedmedlora_crypto.__path__, "fedmedlora_crypto.")
    ]
    found = {name: cls for m in modules for name, cls in vars(m).items() if isinstance(cls, type)}
    for name in quiet:
        assert "__repr__" in {key for cls in found[name].__mro__[:-1] for key in vars(cls)}, name
    assert "shares" not in repr(OpenedMessage(1, bytes(32), (1,), (1,), (b"\x01" * 33,)))
