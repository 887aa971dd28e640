"""Rewriting the past: the coordinator takes its sealed log apart, changes it and seals it anew."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import rfc8785

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import Author
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.note import NoteSigner
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog, digest_of, seed_of
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen


@cache
def clean_log() -> StudyLog:
    """The study that every rewriter starts from: two rounds, one drop-out."""
    return StudyLog().play(2, {"upload": ["site-d"]})


Rewrite = Callable[[Forger], None]


def rewrite(check: str, *also: str) -> Callable[[Rewrite], Rewrite]:
    """Register a rewrite of the clean log, sealed well afterwards."""

    def register(change: Rewrite) -> Rewrite:
        def make(folder: Path) -> Scene:
            made = Forger(clean_log())
            change(made)
            return Scene(made.seal(folder / "bundle"), made.trust)

        make.__doc__ = change.__doc__
        specimen(check, *also, name=change.__name__)(make)
        return change

    return register


def _text(made: Forger, index: int) -> str:
    return parse_event(made.notes[index]).event.canonical_json().decode()


@rewrite("E2", "E6", "E7")
def edited(made: Forger) -> None:
    """A byte of the aggregate's weight changes; nothing is signed anew."""
    index = made.index("aggregate.published")
    made.notes[index] = made.notes[index].replace(b'"weight_sum":40', b'"weight_sum":41')


@rewrite("E6", "E7")
def edited_and_signed_anew(made: Forger) -> None:
    """The coordinator edits its own event and signs that one again."""
    index = made.index("aggregate.published")
    made.change(index, data=made.event(index).data.model_copy(update={"weight_sum": 41}))


@rewrite("E7", "E9")
def edited_with_the_whole_chain(made: Forger) -> None:
    """The strongest rewrite without the sites' keys: everything of the coordinator's fits again."""
    edited_and_signed_anew(made)
    made.resign()


@rewrite("E7", "E9")
def reordered(made: Forger) -> None:
    """Two sites' consents with their receipts change places."""
    first, second = made.index("survivors.agreed", "site-a"), made.index("survivors.agreed", "site-b")
    pairs = made.notes[first : first + 2], made.notes[second : second + 2]
    made.notes[first : second + 2] = [*pairs[1], *made.notes[first + 2 : second], *pairs[0]]
    made.resign()


@rewrite("E5", "E6", "E7", "E9", "U1")
def event_of_a_site_omitted(made: Forger) -> None:
    """A site's consent and its receipt are left out."""
    index = made.index("survivors.agreed", "site-c")
    del made.notes[index : index + 2]
    made.resign()


@rewrite("R4", "E7", "E9")
def receipt_omitted(made: Forger) -> None:
    """A site's event stands without its receipt."""
    del made.notes[made.index("receipt", which=5)]
    made.resign()


@rewrite("E4", "E5", "E6", "E7", "E9", "R3", "R4")
def replayed(made: Forger) -> None:
    """A site's event stands twice."""
    index = made.index("plan.accepted", "site-a")
    made.notes.insert(index + 2, made.notes[index])


@rewrite("E3", "R4")
def spliced_from_another_log(made: Forger) -> None:
    """A site's event of another study is put in."""
    author = Author("site-a", "site", made.log.authors["site-a"].signer, "elsewhere.example/log")
    data = of.StepRefused(step="plan", reason="policy")
    made.notes.append(made.log.draft("site-a", "step.refused", data, author=author))


@rewrite("E2", "E6", "E7", "E9", "R4", "U1")
def signature_forged(made: Forger) -> None:
    """The coordinator writes a site's consent itself."""
    index = made.index("survivors.agreed", "site-b")
    text = _text(made, index) + "\n"
    made.notes[index] = NoteSigner.from_seed("site-b", seed_of("coordinator's own")).sign(text)


@rewrite("G45", "E6", "E7", "E9", "R4", "U1")
def second_signature_line(made: Forger) -> None:
    """A junk line gives a site's event another leaf, so that the site seems to have named a wrong one."""
    index = made.index("survivors.agreed", "site-b")
    made.notes[index] += made.signer.sign(_text(made, index) + "\n").split(b"\n\n")[1]


@rewrite("E1", "E6", "E7", "E9")
def not_canonical(made: Forger) -> None:
    """A blank in an event of the coordinator: a second spelling."""
    index = made.index("round.plan")
    made.notes[index] = made.signer.sign(_text(made, index).replace('"seq":', '"seq": ') + "\n")


@rewrite("E1", "E6", "E7", "E9")
def duplicate_key(made: Forger) -> None:
    """Two types in one event: each reader takes another one."""
    index = made.index("round.plan")
    text = _text(made, index).replace('"type":', '"type":"run.closed","type":')
    made.notes[index] = made.signer.sign(text + "\n")


@rewrite("E1", "E6", "E7", "E9", "P1")
def smuggled_field(made: Forger) -> None:
    """Free text about a patient in a field of its own."""
    index = made.index("round.plan")
    table = json.loads(_text(made, index))
    table["data"]["note"] = "chest pain"
    made.notes[index] = made.signer.sign(rfc8785.dumps(table).decode() + "\n")


@rewrite("P1", "E3", "E7", "E9", "K1")
def record_number_in_the_run_id(made: Forger) -> None:
    """A patient's number where a run's name belongs."""
    for index in range(len(made.notes)):
        if made.event(index).actor.id == "coordinator":
            made.change(index, run="mrn-12345678")
    made.resign()


@rewrite("U2", "E7", "E9", "U3")
def both_seeds_of_one_site(made: Forger) -> None:
    """A survivor's pair key is asked for, too."""
    index = made.index("unmask.request")
    data = made.event(index).data.model_copy(update={"pair_of": ("site-a",)})
    made.change(index, data=data)
    made.resign()


@rewrite("U3", "E7", "E9")
def seed_of_a_survivor_not_asked_for(made: Forger) -> None:
    """The request leaves a survivor's self seed out."""
    index = made.index("unmask.request")
    data = made.event(index).data
    assert isinstance(data, of.UnmaskRequest)
    made.change(index, data=data.model_copy(update={"self_of": data.self_of[1:]}))
    made.resign()


@rewrite("U5", "E7", "E9", "G34", "U1")
def shares_swapped(made: Forger) -> None:
    """The inbox list names other shares than a site had signed."""
    index = made.index("shares.fixed")
    data = made.event(index).data
    assert isinstance(data, of.SharesFixed)
    other = of.IdDigest(id=data.u2[0].id, digest=digest_of("other shares"))
    made.change(index, data=data.model_copy(update={"u2": (other, *data.u2[1:])}))
    made.resign()


@rewrite("R5", "A1", "E7", "E9", "U1")
def survivor_with_another_upload(made: Forger) -> None:
    """The survivor list names another upload than the site had signed."""
    index = made.index("survivors.fixed")
    data = made.event(index).data
    assert isinstance(data, of.SurvivorsFixed)
    other = of.IdDigest(id=data.u3[0].id, digest=digest_of("other upload"))
    made.change(index, data=data.model_copy(update={"u3": (other, *data.u3[1:])}))
    made.resign()


@rewrite("A1", "E7", "E9")
def survivor_left_out_of_the_aggregate(made: Forger) -> None:
    """The aggregate is said to be of one upload fewer."""
    index = made.index("aggregate.published")
    data = made.event(index).data
    assert isinstance(data, of.AggregatePublished)
    made.change(index, data=data.model_copy(update={"inputs": data.inputs[:-1]}))
    made.resign()


@rewrite("M1")
def other_model_released(made: Forger) -> None:
    """A model that no round made is released."""
    made.change(made.index("model.released"), data=of.ModelReleased(adapter="0" * 64, rounds=2))
    made.resign()


@rewrite("K1", "E7", "E9")
def member_invented(made: Forger) -> None:
    """A site that the charter does not know is enrolled in another's place."""
    index = made.index("site.enrolled", which=3)
    made.change(index, data=made.event(index).data.model_copy(update={"site": "site-x"}))
    made.resign()


@rewrite("K1", "E7", "E9")
def member_given_another_key(made: Forger) -> None:
    """A member is enrolled with a key of the coordinator's making."""
    index = made.index("site.enrolled", which=3)
    other = NoteSigner.from_seed("site-d", seed_of("rogue")).vkey
    made.change(index, data=made.event(index).data.model_copy(update={"event_vkey": other}))
    made.resign()


@rewrite("U1", "E5", "E6", "E7", "E9")
def consent_claimed_that_was_not_given(made: Forger) -> None:
    """Only two consented; the request claims three."""
    index = made.index("survivors.agreed", "site-c", which=1)
    del made.notes[index : index + 2]
    made.resign()
