"""Write the vectors of secure aggregation: `python tests/vectors/generate_secagg.py [FOLDER]`.

`rounds/` holds whole sessions (every actor's script), `refusals/` one script each that ends in the refusal
of one defect, named by it, and `primitives.json` known answers of the parts. The same code gives the same
bytes; a test compares them with what is committed.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "support"))

from fedmedlora_crypto.keys import FIELD_PRIME  # noqa: E402
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, PLAIN_SUITE, SUITES, masks  # noqa: E402
from fedmedlora_crypto.secagg.boxes import share_box_context, share_box_key  # noqa: E402
from fedmedlora_crypto.secagg.messages import SELF_SEED, decode_shares  # noqa: E402
from fedmedlora_crypto.secagg.reference import repeatable_source  # noqa: E402
from fedmedlora_crypto.shamir import split_secret  # noqa: E402
from fedmedlora_crypto.xof import Keystream, Vector  # noqa: E402
from fedmedlora_testkit.scripts import Json, Recorder, terms_json  # noqa: E402
from fedmedlora_testkit.secagg import Ward, plain_sum, terms_of, vectors_of  # noqa: E402

DIMENSION = 6
MASK_KEY_AT = 68  # in a keys payload


class Session:
    """A session whose actors all record; what is sent in between is public and may be bent."""

    def __init__(self, n: int, suite: str = MASKED_SUITE) -> None:
        self.terms = terms_of(n, suite=suite)
        self.actors = {
            i: Recorder(self.terms, party=i, seed=self.terms.sid + bytes([i])) for i in range(1, n + 1)
        }
        self.aggregator = Recorder(self.terms)
        self.vectors = vectors_of(self.actors, DIMENSION)
        self.keys: dict[int, bytes] = {}
        self.view = b""
        self.shares: dict[int, bytes] = {}
        self.masked: dict[int, Vector] = {}
        self.opened: dict[int, bytes] = {}

    def advertise(self, gone: Collection[int] = ()) -> None:
        self.keys = {i: a.call("advertise") for i, a in self.actors.items() if i not in gone}
        self.view = bytes(reversed(range(32)))  # any 32 bytes; the log's layer derives the real one

    def share(self, gone: Collection[int] = ()) -> None:
        self.shares = {
            i: self.actors[i].call("share", keys=self.keys, view=self.view)
            for i in self.keys
            if i not in gone
        }

    def upload(self, gone: Collection[int] = ()) -> None:
        for i in self.shares:
            if i not in gone:
                self.actors[i].call("fix", payloads=self.shares)
                self.masked[i] = self.vectors[i].copy()
                self.actors[i].call("mask", vector=self.masked[i])

    def agree(self) -> None:
        for i in self.masked:
            self.actors[i].call("agree", survivors=tuple(self.masked))

    def open(self) -> None:
        u3 = tuple(self.masked)
        self.opened = {i: self.actors[i].call("open", survivors=u3, signers=u3) for i in u3}

    def unmask(self) -> Vector:
        total = plain_sum(self.masked.values())
        self.aggregator.call(
            "unmask",
            total=total,
            keys=self.keys,
            shares=self.shares,
            survivors=tuple(self.masked),
            opened=self.opened,
        )
        return total

    def to(self, last: str) -> "Session":
        for step in ("advertise", "share", "upload", "agree", "open"):
            getattr(self, step)()
            if step == last:
                break
        return self

    def case(self, about: str, *scripts: Json) -> Json:
        return {"about": about, "terms": terms_json(self.terms), "scripts": list(scripts)}


def whole_round(about: str, n: int, suite: str = MASKED_SUITE, **gone: Collection[int]) -> Json:
    """Return a session in which the named parties fall silent at a step."""
    session = Session(n, suite)
    session.advertise(gone.get("advertise", ()))
    session.aggregator.call("admit", keys=session.keys)
    session.share(gone.get("share", ()))
    for i, payload in session.shares.items():
        session.aggregator.call("check_shares", sender=i, payload=payload)
    session.upload(gone.get("upload", ()))
    session.agree()
    session.open()
    total = session.unmask()
    if (total != plain_sum(session.vectors[i] for i in session.masked)).any():
        raise SystemExit(f"{about}: the sum is wrong")
    case = session.case(about, *(a.script for a in session.actors.values()), session.aggregator.script)
    return case | {"plain_sum": total.astype("<u4").tobytes().hex()}


ROUNDS: dict[str, Callable[[], Json]] = {
    "n3_everybody": lambda: whole_round("three parties, nobody drops out", 3),
    "n4_drop_at_advertise": lambda: whole_round("party 2 never advertises", 4, advertise=[2]),
    "n4_drop_at_share": lambda: whole_round("party 2 deals no shares", 4, share=[2]),
    "n4_drop_at_upload": lambda: whole_round("party 2 uploads nothing", 4, upload=[2]),
    "n4_plain": lambda: whole_round("the same flow without masks", 4, PLAIN_SUITE, upload=[2]),
}


def bend_keys(bend: Callable[[Session], bytes]) -> Callable[[Session], Recorder]:
    """Party 1 is shown another keys payload for party 3."""

    def run(session: Session) -> Recorder:
        session.to("advertise")
        session.actors[1].call("share", keys=session.keys | {3: bend(session)}, view=session.view)
        return session.actors[1]

    return run


def with_mask_key(session: Session, key: bytes) -> bytes:
    payload = session.keys[3]
    return payload[:MASK_KEY_AT] + key + payload[MASK_KEY_AT + 32 :]


def mask_key(session: Session, party: int) -> bytes:
    return session.keys[party][MASK_KEY_AT : MASK_KEY_AT + 32]


def bend_inbox(bend: Callable[[Session], dict[int, bytes]]) -> Callable[[Session], Recorder]:
    """Party 1 is shown another inbox."""

    def run(session: Session) -> Recorder:
        session.to("share")
        session.actors[1].call("fix", payloads=bend(session))
        return session.actors[1]

    return run


def tampered(session: Session) -> dict[int, bytes]:
    box = decode_shares(session.shares[3], sid=session.terms.sid, party=3).box(1)
    return session.shares | {3: session.shares[3].replace(box, box[:-1] + bytes([box[-1] ^ 1]))}


def other_commitment(session: Session) -> dict[int, bytes]:
    message = decode_shares(session.shares[3], sid=session.terms.sid, party=3)
    return session.shares | {3: session.shares[3].replace(message.commitment(1, SELF_SEED), bytes(32))}


def split_view(session: Session) -> dict[int, bytes]:
    other = Ward(4)
    other.advertise()
    other.view = bytes(32)
    other.share()
    return session.shares | {3: other.shares[3]}


def after(step: str, method: str, **arguments: Any) -> Callable[[Session], Recorder]:
    """Party 1 is called after a step of an honest session."""

    def run(session: Session) -> Recorder:
        session.to(step)
        if step == "share":
            session.actors[1].call("fix", payloads=session.shares)
        session.actors[1].call(method, **arguments)
        return session.actors[1]

    return run


def late_shares(session: Session) -> Recorder:
    session.to("upload")
    session.actors[1].call("share", keys=session.keys, view=session.view)
    return session.actors[1]


def bend_opened(*liars: int) -> Callable[[Session], Recorder]:
    """Return a wrong share from each of these."""

    def run(session: Session) -> Recorder:
        session.to("open")
        for i in liars:
            session.opened[i] = session.opened[i][:-1] + bytes([session.opened[i][-1] ^ 1])
        session.unmask()
        return session.aggregator

    return run


def bend_lists(bend: Callable[[Session], object]) -> Callable[[Session], Recorder]:
    """The aggregator is handed other lists than the session's."""

    def run(session: Session) -> Recorder:
        session.to("open")
        total = plain_sum(session.masked.values())
        bend(session)
        session.aggregator.call(
            "unmask",
            total=total,
            keys=session.keys,
            shares=session.shares,
            survivors=tuple(session.masked),
            opened=session.opened,
        )
        return session.aggregator

    return run


ONE = plain_sum(vectors_of([1], DIMENSION).values())
REFUSALS: dict[str, tuple[int, Callable[[Session], Recorder]]] = {
    "share_low_order_key": (4, bend_keys(lambda s: with_mask_key(s, bytes(32)))),
    "share_unreduced_key": (4, bend_keys(lambda s: with_mask_key(s, FIELD_PRIME.to_bytes(32, "little")))),
    "share_reencoded_key": (
        3,
        bend_keys(lambda s: with_mask_key(s, mask_key(s, 2)[:31] + bytes([mask_key(s, 2)[31] | 0x80]))),
    ),
    "share_copied_key": (3, bend_keys(lambda s: with_mask_key(s, mask_key(s, 2)))),
    "share_keys_of_another_sender": (4, bend_keys(lambda s: s.keys[2])),
    "share_keys_too_long": (4, bend_keys(lambda s: s.keys[3] + b"\0")),
    "share_short_roster": (
        4,
        lambda s: _call_share(s.to("advertise"), {i: s.keys[i] for i in (1, 2)}),
    ),
    "share_own_keys_missing": (
        4,
        lambda s: _call_share(s.to("advertise"), {i: s.keys[i] for i in (2, 3, 4)}),
    ),
    "fix_short_inbox": (4, bend_inbox(lambda s: {i: s.shares[i] for i in (1, 4)})),
    "fix_own_shares_missing": (4, bend_inbox(lambda s: {i: s.shares[i] for i in (2, 3, 4)})),
    "fix_split_view": (4, bend_inbox(split_view)),
    "fix_swapped_senders": (4, bend_inbox(lambda s: s.shares | {2: s.shares[3], 3: s.shares[2]})),
    "fix_tampered_box": (4, bend_inbox(tampered)),
    "fix_wrong_commitment": (4, bend_inbox(other_commitment)),
    "fix_truncated_shares": (4, bend_inbox(lambda s: s.shares | {3: s.shares[3][:-1]})),
    "late_shares": (4, late_shares),
    "mask_second_vector": (4, after("upload", "mask", vector=ONE)),
    "agree_without_self": (4, after("upload", "agree", survivors=(2, 3, 4))),
    "agree_short_survivors": (4, after("upload", "agree", survivors=(1, 2))),
    "agree_stranger": (4, after("upload", "agree", survivors=(1, 2, 3, 5))),
    "agree_second_set": (4, after("agree", "agree", survivors=(1, 2, 3))),
    "open_both_seeds": (4, after("agree", "open", survivors=(1, 2, 3), signers=(1, 2, 3))),
    "open_short_signers": (4, after("agree", "open", survivors=(1, 2, 3, 4), signers=(1, 2))),
    "open_second_time": (4, after("open", "open", survivors=(1, 2, 3, 4), signers=(1, 2, 3, 4))),
    "share_one_key_for_both_purposes": (4, bend_keys(lambda s: with_mask_key(s, s.keys[3][36:68]))),
    "share_keys_of_another_session": (4, bend_keys(lambda s: s.keys[3][:2] + bytes(32) + s.keys[3][34:])),
    "fix_shares_of_another_session": (
        4,
        bend_inbox(lambda s: s.shares | {3: s.shares[3][:2] + bytes(32) + s.shares[3][34:]}),
    ),
    "fix_other_version": (4, bend_inbox(lambda s: s.shares | {3: b"\2\2" + s.shares[3][2:]})),
    "fix_stranger": (4, bend_inbox(lambda s: s.shares | {5: s.shares[3]})),
    "fix_before_sharing": (4, after("advertise", "fix", payloads={})),
    "mask_before_the_inbox": (4, lambda s: _call(s.to("share"), "mask", vector=ONE)),
    "agree_before_masking": (4, after("share", "agree", survivors=(1, 2, 3, 4))),
    "agree_named_twice": (4, after("upload", "agree", survivors=(1, 2, 2, 3))),
    "open_before_agreeing": (4, after("upload", "open", survivors=(1, 2, 3), signers=(1, 2, 3))),
    "open_signer_outside_the_survivors": (
        4,
        after("agree", "open", survivors=(1, 2, 3, 4), signers=(1, 2, 5)),
    ),
    "open_signer_named_twice": (4, after("agree", "open", survivors=(1, 2, 3, 4), signers=(1, 2, 2))),
    "open_after_erasing": (4, lambda s: _open_erased(s.to("agree"))),
    "unmask_short_survivors": (4, bend_lists(lambda s: s.masked.popitem() and s.masked.popitem())),
    "unmask_short_inbox": (
        4,
        bend_lists(lambda s: [x.pop(i) for x in (s.shares, s.masked) for i in (4, 3, 2)]),
    ),
    "unmask_survivor_without_shares": (4, bend_lists(lambda s: s.shares.pop(4))),
    "unmask_duplicate_key": (
        4,
        bend_lists(lambda s: s.keys.update({3: with_mask_key(s, mask_key(s, 2))})),
    ),
    "unmask_split_view": (4, bend_lists(lambda s: s.shares.update(split_view(s)))),
    "unmask_wrong_returned_share_survived": (4, bend_opened(3)),
    "unmask_wrong_returned_shares_below_threshold": (4, bend_opened(2, 3)),
}


def _call_share(session: Session, keys: dict[int, bytes]) -> Recorder:
    session.actors[1].call("share", keys=keys, view=session.view)
    return session.actors[1]


def _call(session: Session, method: str, **arguments: Any) -> Recorder:
    session.actors[1].call(method, **arguments)
    return session.actors[1]


def _open_erased(session: Session) -> Recorder:
    _call(session, "erase")
    return _call(session, "open", survivors=(1, 2, 3, 4), signers=(1, 2, 3, 4))


def refusal(name: str) -> Json:
    """Return the script that ends in the refusal of one defect."""
    n, run = REFUSALS[name]
    session = Session(n)
    return session.case(name.replace("_", " "), run(session).script)


def primitives() -> Json:
    """Return known answers of the parts, from inputs that are written beside them."""
    sid, view, seed, other = (bytes([x]) * 32 for x in (1, 2, 3, 4))
    binding = terms_of(4, sid=sid).binding(view)
    suite = SUITES[MASKED_SUITE]
    low, high = (masks.mask_agreement_key(suite, s, sid=sid) for s in (seed, other))
    hybrid = masks.mask_agreement_key(SUITES[HYBRID_SUITE], seed, sid=sid)
    stream, sign = masks.pair_mask(binding, (1, low), (2, high.public))
    box_key = share_box_key(binding, (1, low), (2, high.public), dealer=1)
    shares = split_secret(seed, threshold=3, holders=(1, 2, 3, 4), randomness=repeatable_source(other))
    commitment = masks.share_commitment(binding, dealer=1, holder=2, kind=SELF_SEED, share=shares[2])
    return {
        "inputs": {"sid": sid.hex(), "view": view.hex(), "seed": seed.hex(), "other_seed": other.hex()},
        "keystream_words_0_8": _hex(Keystream(seed).words(0, 8)),
        "keystream_words_1000001_3": _hex(Keystream(seed).words(1_000_001, 3)),
        "mask_public_keys": [low.public.hex(), high.public.hex()],
        "hybrid_mask_public_key_sha256": hashlib.sha256(hybrid.public).hexdigest(),
        "share_public_key": masks.share_agreement_key(suite, seed, sid=sid).public.hex(),
        "pair_mask_1_2_words_0_4": _hex(stream.words(0, 4)),
        "pair_mask_1_2_sign": sign,
        "self_mask_1_words_0_4": _hex(masks.self_mask(binding, 1, seed).words(0, 4)),
        "share_box_key_1_to_2": box_key.hex(),
        "share_box_context_1_to_2": share_box_context(binding, dealer=1, holder=2).hex(),
        "seed_commitment_1": masks.seed_commitment(sid, 1, seed).hex(),
        "shamir_3_of_4_randomness_seeded_with_other_seed": {str(x): s.hex() for x, s in shares.items()},
        "share_commitment_1_to_2_self_seed": commitment.hex(),
    }


def _hex(words: Vector) -> str:
    return words.astype("<u4").tobytes().hex()


def write(folder: Path) -> None:
    """Write every vector below `folder`."""
    files = {"primitives": primitives()}
    files |= {f"rounds/{name}": make() for name, make in ROUNDS.items()}
    files |= {f"refusals/{name}": refusal(name) for name in REFUSALS}
    for name, case in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(case, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "secagg")
