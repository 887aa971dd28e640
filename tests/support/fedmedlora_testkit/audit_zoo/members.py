"""A witnessed study in which site-a changes both its keys and site-d leaves, and who abuses what is over."""

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path

from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import cosign, with_cosignatures
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_testkit.audit_attacks.members import later, leave, rotate, rotate_witness
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, witness_of
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen
from fedmedlora_testkit.audit_zoo.witnessed import QUORUM, Witnessed


@cache
def changing_log() -> StudyLog:
    """A round of four, then new keys of site-a, then a round of the three that remain."""
    log = StudyLog(audit={"quorum": True}).set_up().play_round()
    rotate(log, "site-a")
    rotate_witness(log, "site-a")
    leave(log, "site-d")
    return log.play_round({"train": ["site-d"]}).finish()


class Changing(Witnessed):
    """Its notes; witnesses sign with the key of the time, unless told otherwise."""

    def __init__(self) -> None:
        """Take the log apart; the exporter is site-a, which signs with its new key."""
        super().__init__(changing_log())

    @property
    def changed(self) -> int:
        """Index of the new witness key."""
        return self.index("key.rotated", which=1)

    def witness(self, site: str, size: int) -> NoteSigner:
        """What a site cosigns a head of a size with."""
        new = site == "site-a" and size > self.changed
        return later(site, 7, algorithm=ALG_COSIGNATURE) if new else witness_of(site)

    def head(self, size: int, sites: Iterable[str] = QUORUM, *, late: int = 30, old: bool = False) -> bytes:
        """The head over the first notes, with the keys of the time or those of the charter."""
        checkpoint = Checkpoint(ORIGIN, size, Tree.of_data(self.notes[:size]).root())
        time = int(datetime.fromisoformat(self.event(size - 1).time).timestamp()) + late
        signers = [witness_of(site) if old else self.witness(site, size) for site in sites]
        lines = [cosign(checkpoint, signer, time=time) for signer in signers]
        return with_cosignatures(sign_checkpoint(checkpoint, self.log.log_signer), lines)


def changing_scene(folder: Path) -> Scene:
    """The lawful study, exported by site-a under its new key."""
    made = Changing()
    made.signer = later("site-a")
    return made.cosigned(folder)


@specimen("U1")
def cosigned_with_the_witness_key_before_the_rotation(folder: Path) -> Scene:
    """Who stole site-a's old witness key makes up a quorum after the key was changed."""
    made = Changing()
    size = next(size for size in made.sizes() if size > made.changed)
    return made.cosigned(folder, {size: made.head(size, old=True)})


@specimen("U1")
def cosigned_by_one_who_left(folder: Path) -> Scene:
    """A quorum is made up with the line of a member that has left."""
    made = Changing()
    size = next(size for size in made.sizes() if size > made.changed)
    return made.cosigned(folder, {size: made.head(size, ("site-b", "site-c", "site-d"))})


@specimen("B1")
def manifest_signed_with_the_key_before_the_rotation(folder: Path) -> Scene:
    """Who stole site-a's old event key puts a bundle together."""
    made = Changing()
    made.signer = StudyLog().authors["site-a"].signer
    return made.cosigned(folder)
