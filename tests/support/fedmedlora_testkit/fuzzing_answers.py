"""Readers of what a model wrote, and of what a dealer sent and sealed, as decoders for `fuzzing`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from fedmedlora_core.labels import label_set
from fedmedlora_core.records import Entity, Note, Relation
from fedmedlora_core.tasks.examples import Example, examples_of, read_output
from fedmedlora_core.tasks.templates import JsonTemplate, PlainTemplate, Template, TinyTemplate
from fedmedlora_crypto.errors import PeerError
from fedmedlora_crypto.secagg import HYBRID_SUITE, Aggregator, Party
from fedmedlora_crypto.secagg.boxes import open_shares, seal_shares
from fedmedlora_crypto.secagg.dealing import Dealer, Roster
from fedmedlora_crypto.secagg.graph import Graph
from fedmedlora_crypto.secagg.messages import decode_keys, decode_shares
from fedmedlora_crypto.secagg.reference import repeatable_source
from fedmedlora_crypto.secagg.roster import read_keys
from fedmedlora_testkit.fuzzed import Decoder
from fedmedlora_testkit.secagg import SID, Ward

NOTE = Note(
    document_id="n1",
    patient_id="p1",
    text="No fever, severe chest pain. Größe 1.80 m; given aspirin 40 mg for pain.\n",
    entities=(
        Entity("E1", "problem", 3, 8),
        Entity("E2", "problem", 17, 27),
        Entity("E3", "severity", 10, 16),
        Entity("E4", "drug", 49, 56),
    ),
    relations=(Relation("E2", "severity", "E3"),),
    annotated=frozenset({"problem", "drug", "severity"}),
)
LABELS = label_set(["problem", "drug"], ["severity"])


def answers(template: Template) -> tuple[Callable[[], list[bytes]], Callable[[bytes], None]]:
    """The gold answers of a note, and the reading of them back; every span lies in what was asked about."""
    examples = examples_of([NOTE], LABELS, template, ["ner", "re"])

    def read(data: bytes) -> None:
        output = data.decode("utf-8", "replace")
        for example in examples:
            for start, end, label in read_output(example, NOTE, template, output).spans:
                if not (_within(example, start, end) and label in example.types):
                    raise AssertionError(f"a span outside the question: {start}, {end}, {label}")

    return lambda: [example.target.encode() for example in examples], read


def _within(example: Example, start: int, end: int) -> bool:
    return example.window.start <= start < end <= example.window.end


@cache
def ward() -> Ward:
    """A session whose shares are dealt; its parties can be made again, alike."""
    dealt = Ward(4, suite=HYBRID_SUITE)
    dealt.advertise()
    dealt.share()
    return dealt


def inbox(data: bytes) -> None:
    """Fix an inbox in which the second party's payload is bent, as a party that has dealt."""
    party = Party(ward().terms, 1, randomness=repeatable_source(SID + bytes([1])))
    party.advertise()
    own = party.share(ward().keys, ward().view)  # its wrapped secrets are fresh
    party.fix(ward().shares | {1: own, 2: data})


@cache
def dealers() -> tuple[Roster, Dealer, Dealer]:
    """The first two parties' secrets of the session, and the list of keys that they have accepted."""
    terms, members = ward().terms, tuple(sorted(ward().keys))
    keys = {i: decode_keys(ward().keys[i], sid=SID, party=i, suite=terms.layout) for i in members}
    one, two = (Dealer(terms, i, repeatable_source(SID + bytes([i]))) for i in (1, 2))
    return Roster(terms.binding(ward().view), keys, Graph(members)), one, two


def sealed_shares() -> bytes:
    """What the second party, which is honest, has sealed for the first."""
    roster, one, _ = dealers()
    message = decode_shares(ward().shares[2], sid=SID, party=2, suite=ward().terms.layout)
    return open_shares(roster.binding, (1, one.share_key), (2, roster.keys[2].share_key), message.box(1))


def receive(data: bytes) -> None:
    """Take a whole message of a member whose sealed content is bent; the seal itself is right."""
    roster, one, two = dealers()
    plain = data[: len(sealed_shares())].ljust(len(sealed_shares()), b"\0")
    message = decode_shares(ward().shares[2], sid=SID, party=2, suite=ward().terms.layout)
    holder = (1, roster.keys[1].share_key)
    box = seal_shares(roster.binding, (2, two.share_key), holder, plain, randomness=repeatable_source(b"r"))
    one.receive(roster, 2, replace(message, boxes=(box, *message.boxes[1:])).encode(SID), {})


def roster(data: bytes) -> None:
    """Sort the advertised keys of a session, one member's bent; that member alone may be refused for it."""
    usable, refused = read_keys(ward().terms, ward().keys | {4: data})
    if not set(refused) <= {4} or len(usable) + len(refused) != len(ward().keys):
        raise AssertionError("another than the fourth member was refused")


@cache
def opened() -> Ward:
    """The same session once all its shares are opened."""
    done = Ward(4, suite=HYBRID_SUITE)
    return done.run_to(done.open)


def opening(data: bytes) -> None:
    """Rebuild the masks with one survivor's opened shares bent: the other three are enough."""
    done = opened()
    found = Aggregator(done.terms).open_masks(done.keys, done.shares, done.survivors, done.opened | {2: data})
    if not set(found.unmasking.refused) <= {2}:
        raise AssertionError("another than the second survivor was refused")


ANSWER_DECODERS: dict[str, Decoder] = {
    **{
        f"answer-{name}": Decoder(*answers(template), ())
        for name, template in (("tiny", TinyTemplate()), ("plain", PlainTemplate()), ("json", JsonTemplate()))
    },
    "inbox": Decoder(lambda: [ward().shares[2]], inbox, PeerError),
    "roster": Decoder(lambda: [ward().keys[4]], roster, ()),
    "openings": Decoder(lambda: [opened().opened[2]], opening, ()),
    "sealed-shares": Decoder(lambda: [sealed_shares()], receive, PeerError),
}
