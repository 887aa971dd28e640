"""Attacks on the secrets of a session: refused by their own error or useless, and exact without checks."""

from __future__ import annotations

import pytest

from fedmedlora_testkit.adversary import SECRET_ATTACKS

REFUSED = [name for name, entry in SECRET_ATTACKS.items() if entry.error is not None]
USELESS = [name for name, entry in SECRET_ATTACKS.items() if entry.error is None]


@pytest.mark.parametrize("name", REFUSED)
def test_attack_on_secrets_is_refused_by_its_own_error(name: str) -> None:
    entry = SECRET_ATTACKS[name]
    assert entry.error is not None
    with pytest.raises(entry.error) as caught:
        entry.play()
    assert type(caught.value) is entry.error


@pytest.mark.parametrize("name", USELESS)
def test_attack_on_secrets_gives_nothing(name: str) -> None:
    assert not SECRET_ATTACKS[name].play()


@pytest.mark.parametrize("name", SECRET_ATTACKS)
def test_attack_on_secrets_succeeds_without_its_checks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SECRET_ATTACKS[name]
    for target, attribute, replacement in entry.without:
        monkeypatch.setattr(target, attribute, replacement)
    assert entry.play()
