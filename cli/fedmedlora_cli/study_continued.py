"""What a new study takes over from an old one: the last head of its log, and the adapter that it led to.

Members, keys and the log itself are new: a charter is signed by everybody that it names, and a log has one
charter. What goes on is what was learnt, and the budgets in the hospitals' own ledgers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedmedlora_audit.bundle import CHARTER, CHECKPOINT, read_files
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import open_checkpoint
from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.event_data import ModelReleased, RoundClosed
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.tiles import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import PredecessorTerms


def last_head(bundle: Path) -> PredecessorTerms:
    """Read the last head of a closed log from a bundle; its verdict is `audit verify`'s business.

    Raises:
        ConfigError: It is no bundle, or its head is not signed by its log.
    """
    try:
        files = read_files(bundle)[0]
        terms = CharterTerms.from_json(files[CHARTER])
        head = open_checkpoint(files[CHECKPOINT], VerifierKey.parse(terms.log_vkey), origin=terms.origin)
    except KeyError as lacking:
        raise ConfigError(f"{bundle}: is no bundle of a log: {lacking.args[0]} is missing") from None
    except (OSError, AuditError) as error:
        raise ConfigError(f"{bundle}: is no bundle of a log: {error}") from None
    return PredecessorTerms(origin=head.origin, size=head.size, root=head.root.hex())


def continued_adapter(folder: Path, fresh: Adapter, bundle: Path | None) -> Adapter:
    """Read the adapter that a new study goes on from.

    Args:
        folder: A released adapter, as PEFT folder.
        fresh: What the new study's profile would begin with: the layout that it needs.
        bundle: Bundle of the old log, or None if the adapter comes from elsewhere.

    Raises:
        ConfigError: It is no adapter of that layout, or not the one that the old log led to.
    """
    adapter = Adapter.load(folder)
    if _shapes(adapter) != _shapes(fresh) or adapter.trainable != fresh.trainable:
        raise ConfigError(f"{folder}: has another layout than the profile's adapter for this base model")
    if bundle is not None and adapter.digest not in _led_to(bundle):  # R2.5.8
        raise ConfigError(f"{folder}: is not the adapter that the log in {bundle} led to or released")
    return adapter


def _shapes(adapter: Adapter) -> Mapping[str, tuple[int, ...]]:
    return {name: values.shape for name, values in adapter.tensors.items()}


def _led_to(bundle: Path) -> frozenset[str]:
    """Return the digests of the last closed round's adapter, or the first one, and of the released one."""
    head = last_head(bundle)
    files = read_files(bundle)[0]
    last = CharterTerms.from_json(files[CHARTER]).initial_adapter
    released = ""
    for note in read_entries(files, head.size)[0]:
        try:
            data = parse_event(note).event.data
        except AuditError as error:
            raise ConfigError(f"{bundle}: is no bundle of a log: {error}") from None
        last = data.next_base if isinstance(data, RoundClosed) else last
        released = data.adapter if isinstance(data, ModelReleased) else released
    return frozenset({last, released})
