"""Scripts: what one actor of a session is called with and what it answers, as JSON that can be played
again.

A script names its actor (a party with the seed of its randomness, or the aggregator) and lists calls in
order, each with its arguments and either what it returns (and what it leaves in the vector it was given)
or the error it raises, with the party that is blamed. Bytes and vectors are hex, vectors as little-endian
words.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedmedlora_crypto.errors import CryptoError
from fedmedlora_crypto.secagg import Aggregator, Party, SessionTerms, Unmasking
from fedmedlora_crypto.secagg.reference import repeatable_source

Json = dict[str, Any]
_BYTES = {"view", "payload"}
_PAYLOADS = {"keys", "payloads", "shares", "opened"}
_VECTORS = {"vector", "total"}


def terms_json(terms: SessionTerms) -> Json:
    """Return the terms as JSON; what a session does not have is left out."""
    return {name: value for name, value in vars(terms).items() if value is not None} | {
        "sid": terms.sid.hex()
    }


def terms_from(json: Json) -> SessionTerms:
    """Return the terms that a case names."""
    return SessionTerms(**{**json, "sid": bytes.fromhex(json["sid"])})


class Recorder:
    """An actor that writes down every call and its outcome."""

    def __init__(self, terms: SessionTerms, *, party: int | None = None, seed: bytes = b"") -> None:
        self.actor: Party | Aggregator = Aggregator(terms)
        self.script: Json = {"actor": "aggregator", "calls": []}
        if party is not None:
            self.actor = Party(terms, party, randomness=repeatable_source(seed))
            self.script |= {"actor": "party", "index": party, "seed": seed.hex()}

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Make a call; an error of the library is written down, not raised."""
        entry: Json = {"call": method, "arguments": {k: _encode(v) for k, v in arguments.items()}}
        self.script["calls"].append(entry)
        try:
            result = getattr(self.actor, method)(**arguments)
        except CryptoError as error:
            entry["raises"] = {"error": type(error).__name__, "reason": error.reason}
            if (party := getattr(error, "party", None)) is not None:
                entry["raises"]["party"] = party
            return None
        if result is not None:
            entry["returns"] = _encode(result)
        for name in _VECTORS & arguments.keys():
            entry["leaves"] = _encode(arguments[name])
        return result


def replay(terms: SessionTerms, script: Json) -> Json:
    """Make the calls of a script on a fresh actor and return the script as it comes out now."""
    seed = bytes.fromhex(script.get("seed", ""))
    recorder = Recorder(terms, party=script.get("index"), seed=seed)
    for entry in script["calls"]:
        recorder.call(entry["call"], **{k: _decode(k, v) for k, v in entry["arguments"].items()})
    return recorder.script


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.ndarray):
        return value.astype("<u4").tobytes().hex()
    if isinstance(value, Mapping):
        return {str(key): _encode(entry) for key, entry in value.items()}
    if isinstance(value, Unmasking):
        refused = {str(party): type(error).__name__ for party, error in value.refused.items()}
        return {"used": list(value.used), "refused": refused}
    if isinstance(value, tuple):
        return [_encode(entry) for entry in value]
    return value


def _decode(name: str, value: Any) -> Any:
    if name in _BYTES:
        return bytes.fromhex(value)
    if name in _PAYLOADS:
        return {int(key): bytes.fromhex(entry) for key, entry in value.items()}
    if name in _VECTORS:
        return np.frombuffer(bytes.fromhex(value), dtype="<u4").astype(np.uint32)
    return tuple(value) if isinstance(value, list) else value
