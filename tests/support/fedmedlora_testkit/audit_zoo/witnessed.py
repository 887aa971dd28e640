"""A study whose charter demands a quorum of witnesses, and who falsifies it: C3, E8, U1, bought quorums."""

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path

from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import cosign, is_cosigned_after, with_cosignatures
from fedmedlora_audit.merkle import Tree
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, witness_of
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen
from fedmedlora_testkit.audit_zoo.rewrites import edited_with_the_whole_chain

QUORUM = ("site-a", "site-b", "site-c")


@cache
def witnessed_log() -> StudyLog:
    """Two rounds of a study whose charter demands a quorum of 3 of its 4 members."""
    return StudyLog(audit={"quorum": True}).play(2, {"upload": ["site-d"]})


class Witnessed(Forger):
    """The notes of that log, and witnesses who sign what they are paid for."""

    def __init__(self, log: StudyLog | None = None) -> None:
        """Take the log apart."""
        super().__init__(log or witnessed_log())

    def sizes(self) -> list[int]:
        """Sizes of the heads that witnesses sign."""
        return [place + 1 for place, _ in enumerate(self.notes) if is_cosigned_after(self.event(place).type)]

    def head(self, size: int, sites: Iterable[str] = QUORUM, *, late: int = 30) -> bytes:
        """The head over the first notes, cosigned by some sites shortly after its last event."""
        tree = Tree.of_data(self.notes[:size])
        checkpoint = Checkpoint(ORIGIN, size, tree.root())
        time = int(datetime.fromisoformat(self.event(size - 1).time).timestamp()) + late
        lines = [cosign(checkpoint, witness_of(site), time=time) for site in sites]
        return with_cosignatures(sign_checkpoint(checkpoint, self.log.log_signer), lines)

    def cosigned(
        self, folder: Path, heads: dict[int, bytes] | None = None, last: bytes | None = None
    ) -> Scene:
        """Seal with all heads cosigned, but for those given."""
        own = {size: self.head(size) for size in self.sizes()[:-1]}
        files = {f"heads/{size}": note for size, note in {**own, **(heads or {})}.items() if note}
        last = last or self.head(len(self.notes))
        return Scene(self.seal(folder / "bundle", extra=files, checkpoint=last), self.trust)


def witnessed_scene(folder: Path) -> Scene:
    """The lawful witnessed study."""
    return Witnessed().cosigned(folder)


@specimen("C3")
def cosignature_damaged(folder: Path) -> Scene:
    """A witness's line was made over another head."""
    made = Witnessed()
    size = made.sizes()[1]
    wrong = cosign(Checkpoint(ORIGIN, size + 1, bytes(32)), witness_of("site-d"), time=5)
    return made.cosigned(folder, {size: made.head(size) + wrong})


@specimen("C3")
def resealed_alone(folder: Path) -> Scene:
    """The coordinator changes its last word and puts the old cosignatures under the new head."""
    made = Witnessed()
    lines = made.head(len(made.notes)).partition(b"\n\n")[2].splitlines(keepends=True)[1:]
    del made.notes[made.index("run.closed")]
    fresh = sign_checkpoint(
        Checkpoint(ORIGIN, len(made.notes), Tree.of_data(made.notes).root()), made.log.log_signer
    )
    return made.cosigned(folder, last=with_cosignatures(fresh, lines))


@specimen("E7", "E9")
def resealed_with_a_bought_quorum(folder: Path) -> Scene:
    """Three of four witnesses cosign the rewritten log; the sites' own events still name the true one."""
    made = Witnessed()
    edited_with_the_whole_chain(made)
    return made.cosigned(folder)


@specimen("C6")
def resealed_with_a_bought_quorum_against_an_honest_head(folder: Path) -> Scene:
    """Three witnesses cosign a log without its last word; the fourth kept its head."""
    made = Witnessed()
    heads = folder / "heads"
    heads.mkdir(parents=True)
    (heads / "site-d.checkpoint").write_bytes(made.head(len(made.notes), ["site-d"]))
    del made.notes[made.index("run.closed")]
    scene = made.cosigned(folder)
    return Scene(scene.bundle, scene.trust, heads)


@specimen("C4")
def cosigned_fork(folder: Path) -> Scene:
    """A quorum's head in the bundle is of another history."""
    made, other = Witnessed(), Witnessed()
    size = made.sizes()[1]
    other.change(size - 1, time="2026-03-02T00:00:00Z")
    return made.cosigned(folder, {size: other.head(size, late=-30_000)})


@specimen("U1")
def opened_before_a_quorum_stood_behind_the_survivors(folder: Path) -> Scene:
    """Shares were opened while only the coordinator's head covered the survivor list."""
    made = Witnessed()
    return made.cosigned(folder, {made.sizes()[0]: b""})


@specimen("U1")
def opened_under_two_of_three_cosignatures(folder: Path) -> Scene:
    """Shares were opened under a head that one witness too few had cosigned."""
    made = Witnessed()
    size = made.sizes()[0]
    return made.cosigned(folder, {size: made.head(size, QUORUM[:2])})


@specimen("E8")
def backdated(folder: Path) -> Scene:
    """Events bear times before the quorum that the opening they follow had waited for."""
    made = Witnessed()
    size = made.sizes()[2]  # the survivors of the second round
    return made.cosigned(folder, {size: made.head(size, late=90_000)})


@specimen("E8")
def forward_dated(folder: Path) -> Scene:
    """Events bear times after the witnesses had seen them."""
    made = Witnessed()
    size = made.sizes()[1]
    return made.cosigned(folder, {size: made.head(size, late=-4_000)})
