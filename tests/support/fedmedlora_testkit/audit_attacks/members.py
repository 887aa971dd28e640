"""Attacks on members and their keys over time."""

from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import Author
from fedmedlora_audit.member_keys import rotation_data
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack, by_coordinator
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, seed_of, witness_of


def later(site: str, number: int = 1, **kind: Any) -> NoteSigner:
    """A key that a site has later."""
    return NoteSigner.from_seed(site, seed_of(f"{site}/later/{number}"), **kind)


def rotation_of(log: StudyLog, site: str, new: NoteSigner, **changes: Any) -> of.KeyRotated:
    """The data of a lawful rotation of a site's event key, with lies if any."""
    given = {"origin": ORIGIN, "charter": log.terms.digest, "kind": "event", **changes}
    old = given.pop("old", log.authors[site].signer)
    return rotation_data(old=old, new=new, **given)


def rotate(log: StudyLog, site: str, number: int = 1) -> None:
    """Change a site's event key; its later events are signed with the new one."""
    new = later(site, number)
    log.say(site, "key.rotated", rotation_of(log, site, new))
    log.authors[site] = Author(site, "site", new, ORIGIN)


def rotate_witness(log: StudyLog, site: str) -> NoteSigner:
    """Change a site's witness key; returns the new one."""
    new = later(site, 7, algorithm=ALG_COSIGNATURE)
    log.say(site, "key.rotated", rotation_of(log, site, new, kind="witness", old=witness_of(site)))
    return new


def leave(log: StudyLog, site: str) -> None:
    """Let a site leave."""
    log.say(site, "site.left", of.SiteLeft(charter=log.terms.digest))


@attack("R1")
def rotation_before_the_run(log: StudyLog) -> bytes:
    for entry in StudyLog().set_up().entries[:13]:
        log.add(entry.note, receipt=False)
    return log.draft("site-a", "key.rotated", rotation_of(log, "site-a", later("site-a")))


@attack("K2")
def rotation_to_a_key_that_nobody_proved_to_hold(log: StudyLog) -> bytes:
    """A member takes in a key of which it holds no private half."""
    log.set_up()
    data = rotation_of(log, "site-a", later("site-a"))
    other = rotation_of(log, "site-a", later("site-a", 2))
    return log.draft("site-a", "key.rotated", data.model_copy(update={"possession": other.possession}))


@attack("K2")
def rotation_proven_for_another_log(log: StudyLog) -> bytes:
    """The proof of possession is one that was made for another log."""
    log.set_up()
    data = rotation_of(log, "site-a", later("site-a"), origin="test.example/study-2")
    return log.draft("site-a", "key.rotated", data)


@attack("K2")
def rotation_to_the_key_of_another_member(log: StudyLog) -> bytes:
    """A member takes the key of another, under its own name: one key would speak for two."""
    log.set_up()
    taken = NoteSigner.from_seed("site-a", seed_of("site-b"))
    return log.draft("site-a", "key.rotated", rotation_of(log, "site-a", taken))


@attack("K2")
def rotation_back_to_an_old_key(log: StudyLog) -> bytes:
    """Who holds the stolen old key and the new one brings the old one back."""
    log.set_up()
    first = log.authors["site-a"].signer
    rotate(log, "site-a")
    log.plan()
    return log.draft("site-a", "key.rotated", rotation_of(log, "site-a", first))


@attack("K2")
def rotation_to_a_key_in_another_name(log: StudyLog) -> bytes:
    """A member takes a key in the name of another."""
    log.set_up()
    return log.draft("site-a", "key.rotated", rotation_of(log, "site-a", later("site-b")))


@attack("K2")
def event_key_that_is_a_witness_key(log: StudyLog) -> bytes:
    log.set_up()
    data = rotation_of(log, "site-a", later("site-a", algorithm=ALG_COSIGNATURE))
    return log.draft("site-a", "key.rotated", data)


@attack("K2")
def witness_key_without_its_elders_consent(log: StudyLog) -> bytes:
    """Who stole the event key alone takes the witness key as well."""
    log.set_up()
    new = later("site-a", algorithm=ALG_COSIGNATURE)
    data = rotation_of(log, "site-a", new, kind="witness", old=later("site-a", 2, algorithm=ALG_COSIGNATURE))
    return log.draft("site-a", "key.rotated", data)


@attack("R3")
def second_rotation_in_one_round(log: StudyLog) -> bytes:
    log.set_up().plan()
    rotate(log, "site-a")
    return log.draft("site-a", "key.rotated", rotation_of(log, "site-a", later("site-a", 2)))


@attack("E2")
def event_under_the_key_before_the_rotation(log: StudyLog) -> bytes:
    """Who stole the old key goes on in the member's name after it was changed."""
    log.set_up()
    stolen = log.authors["site-a"]
    rotate(log, "site-a")
    plan = log.plan().leaf.hex()
    data = of.Base(base=log.state.base)
    return log.draft("site-a", "plan.accepted", data, author=stolen, refs=[plan], round=1)


@attack("K3")
def word_of_a_member_that_has_left(log: StudyLog) -> bytes:
    """A member that has left takes part again."""
    log.set_up().plan()
    leave(log, "site-d")
    plan = log.state.rounds[1].plan.leaf.hex()
    return log.draft("site-d", "plan.accepted", of.Base(base=log.state.base), refs=[plan], round=1)


@attack("K3")
def leaving_of_another_charter(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("site-d", "site.left", of.SiteLeft(charter=ZERO))


@attack("R1")
def leaving_before_the_run(log: StudyLog) -> bytes:
    for entry in StudyLog().set_up().entries[:13]:
        log.add(entry.note, receipt=False)
    return log.draft("site-a", "site.left", of.SiteLeft(charter=log.terms.digest))


@attack("K3")
def round_with_fewer_members_than_the_threshold(log: StudyLog) -> bytes:
    """The coordinator goes on after so many members left that no threshold remains."""
    log.set_up()
    leave(log, "site-c")
    leave(log, "site-d")
    return by_coordinator(log, "round.plan", of.Base(base=log.state.base), round=1)
