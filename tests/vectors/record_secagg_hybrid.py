"""Record the vectors of the hybrid suite: `python tests/vectors/record_secagg_hybrid.py [FOLDER]`.

ML-KEM encapsulation draws the system's randomness, which no seed of ours reaches: a second run gives other
bytes that are as good. So a round is recorded once; what reads it - the rule for U1, the checks of shares,
the opening of wraps, the unmasking - depends on the payloads alone and is played again by a test.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "support"))

from fedmedlora_crypto.hybrid import HYBRID_KEY_BYTES  # noqa: E402
from fedmedlora_crypto.secagg import HYBRID_SUITE, SUITES, masks  # noqa: E402
from fedmedlora_crypto.secagg.messages import decode_shares  # noqa: E402
from fedmedlora_testkit.scripts import Json, Recorder, terms_json  # noqa: E402
from fedmedlora_testkit.secagg import SID, Ward, plain_sum, vectors_of  # noqa: E402

SUITE = SUITES[HYBRID_SUITE]
MASK_KEY_AT = 36 + HYBRID_KEY_BYTES
KEM_AT = MASK_KEY_AT + 32


def recorded() -> tuple[Ward, dict[int, bytes]]:
    """Run a round of four in which party 3 uploads nothing; returns it with the mask seeds of all."""
    ward = Ward(4, suite=HYBRID_SUITE)
    ward.advertise()
    ward.share()
    seeds = {i: vars(party)["_own"].mask_seed for i, party in ward.parties.items()}
    ward.upload(vectors_of(range(1, 5), 6), late=(3,))
    ward.agree()
    ward.open()
    return ward, seeds


def aggregator(ward: Ward) -> Recorder:
    """Let the aggregator see the recorded payloads up to the sum."""
    recorder = Recorder(ward.terms)
    recorder.call("admit", keys=ward.keys)
    for i, payload in ward.shares.items():
        recorder.call("check_shares", sender=i, payload=payload)
    return recorder


def unmask(recorder: Recorder, ward: Ward, shares: dict[int, bytes]) -> None:
    recorder.call(
        "unmask",
        total=ward.total(),
        keys=ward.keys,
        shares=shares,
        survivors=ward.survivors,
        opened=ward.opened,
    )


def case(about: str, ward: Ward, recorder: Recorder) -> Json:
    return {"about": about, "terms": terms_json(ward.terms), "scripts": [recorder.script]}


def one_call(ward: Ward, method: str, **arguments: object) -> Recorder:
    recorder = Recorder(ward.terms)
    recorder.call(method, **arguments)
    return recorder


def cases() -> dict[str, Json]:
    """Return every case by name."""
    ward, seeds = recorded()
    whole = aggregator(ward)
    unmask(whole, ward, ward.shares)
    binding = ward.terms.binding(ward.view)
    dealt = decode_shares(ward.shares[1], sid=SID, party=1, suite=SUITE)
    opened = [
        {
            "seed": seeds[holder].hex(),
            "wrap": dealt.wrap(holder).hex(),
            "info": masks._pair_wrap_info(binding, 1, holder).hex(),
            "secret": masks._own_pair_secret(binding, seeds[1], 1, holder).hex(),
        }
        for holder in (2, 3, 4)
    ]
    total = plain_sum(vectors_of(ward.survivors, 6).values())
    made = {
        "round_n4_drop_at_upload": case("party 3 uploads nothing", ward, whole)
        | {"plain_sum": total.astype("<u4").tobytes().hex(), "opened_wraps": opened}
    }
    wrap = dealt.wrap(3)
    bent = ward.shares[1].replace(wrap, bytes([wrap[0] ^ 1]) + wrap[1:])
    altered = Recorder(ward.terms)
    unmask(altered, ward, ward.shares | {1: bent})
    made["refuse_altered_wrap_for_a_dropped_party"] = case("a wrap for party 3 was altered", ward, altered)
    kem = slice(KEM_AT, MASK_KEY_AT + HYBRID_KEY_BYTES)
    for name, half in (("copied_kem_half", ward.keys[2][kem]), ("kem_half_out_of_range", b"\xff" * 1184)):
        keys = ward.keys | {3: ward.keys[3][:KEM_AT] + half + ward.keys[3][kem.stop :]}
        made[f"refuse_{name}"] = case(name.replace("_", " "), ward, one_call(ward, "admit", keys=keys))
    other = Ward(4)
    other.advertise()
    other.share()
    for name, payload in (
        ("shares_of_another_suite", other.shares[1]),
        ("wrap_missing", ward.shares[1][:-1168]),
    ):
        call = one_call(ward, "check_shares", sender=1, payload=payload)
        made[f"refuse_{name}"] = case(name.replace("_", " "), ward, call)
    return made


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "secagg_hybrid"
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in cases().items():
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="ascii")
