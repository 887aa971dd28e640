"""Keys, charter, files and fetched heads: what is falsified around the log."""

import base64
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedmedlora_audit import event_data as of
from fedmedlora_audit import note as note_module
from fedmedlora_audit.chain import Author
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner, VerifierKey, key_id, signature_line
from fedmedlora_testkit.audit_forger import Forger, edit_file
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, charter_table
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen
from fedmedlora_testkit.audit_zoo.rewrites import clean_log


def sealed(folder: Path, **given: Any) -> Scene:
    """The clean log in a bundle."""
    made = Forger(clean_log())
    return Scene(made.seal(folder / "bundle", **given), made.trust)


def with_head(folder: Path, made: Forger, site: str, head: bytes) -> Scene:
    """A sealed bundle, and a head fetched from a site."""
    heads = folder / "heads"
    heads.mkdir(parents=True)
    (heads / f"{site}.checkpoint").write_bytes(head)
    return Scene(made.seal(folder / "bundle"), made.trust, heads)


# -- files


@specimen("B1")
def file_added(folder: Path) -> Scene:
    """A file is put into the bundle after the export."""
    scene = sealed(folder)
    (scene.bundle / "notes.txt").write_text("x")
    return scene


@specimen("B1")
def manifest_of_a_stranger(folder: Path) -> Scene:
    """Somebody whom the auditor does not know exports the bundle."""
    return sealed(folder, signer=NoteSigner.generate("coordinator"))


@specimen("C1", "B1")
def hash_tile_changed(folder: Path) -> Scene:
    """A hash in a tile is not that of its entry: others would build proofs on it."""
    scene = sealed(folder)
    tile = next(path for path in (scene.bundle / "tile" / "0").rglob("*") if path.is_file())
    edit_file(scene.bundle, str(tile.relative_to(scene.bundle)), lambda data: bytes(32) + data[32:])
    return scene


@specimen("C1", "B1", "C4")
def last_event_replaced_under_the_seal(folder: Path) -> Scene:
    """The entries are those of another end of the study; the signed head stays."""
    made = Forger(clean_log())
    made.change(made.index("run.closed"), time="2026-03-02T00:00:00Z")
    other = made.seal(folder / "other")
    scene = sealed(folder)
    for path in (other / "tile").rglob("*"):
        if path.is_file():
            (scene.bundle / path.relative_to(other)).write_bytes(path.read_bytes())
    return scene


@specimen("C2", "B1")
def head_forged(folder: Path) -> Scene:
    """The head is signed by another key than the log's."""
    scene = sealed(folder)
    tree = clean_log().tree
    fake = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), NoteSigner.generate(ORIGIN))
    edit_file(scene.bundle, "checkpoint", lambda _: fake)
    return scene


@specimen("C5", "B1", "C1", "C4")
def tail_cut_under_the_old_head(folder: Path) -> Scene:
    """The last tile of entries is removed."""
    scene = sealed(folder)
    last = next(path for path in (scene.bundle / "tile" / "entries").rglob("*") if path.is_file())
    last.unlink()
    return scene


# -- heads fetched from sites


@specimen("C6")
def tail_cut_and_sealed(folder: Path) -> Scene:
    """The coordinator's own last word, on which no site has built, is cut off; one site holds its head."""
    made = Forger(clean_log())
    del made.notes[made.index("run.closed")]
    return with_head(folder, made, "site-a", clean_log().checkpoint())


@specimen("C4", "C6")
def forked(folder: Path) -> Scene:
    """Two lawful histories that part in round 2: site-b was shown the other one."""
    return with_head(folder, Forger(StudyLog().play(2)), "site-b", clean_log().checkpoint())


@specimen("C6")
def head_of_a_site_not_of_this_log(folder: Path) -> Scene:
    """A site holds a head that the log's key never signed."""
    junk = NoteSigner.generate(ORIGIN).sign("junk\n")
    return with_head(folder, Forger(clean_log()), "site-b", junk)


@specimen("J1")
def refusal_kept_out_of_the_log(folder: Path) -> Scene:
    """A site refused, by its own journal; the log is silent."""
    scene = sealed(folder)
    heads = folder / "heads" / "site-c"
    heads.mkdir(parents=True)
    row = {"time": "2026-03-01T00:00:00Z", "step": "plan", "reason": "policy", "round": 1, "sid": None}
    (heads / "journal.jsonl").write_text(json.dumps(row) + "\n")
    return Scene(scene.bundle, scene.trust, heads.parent)


# -- keys and charter


@specimen("T1", "G32", "K1", "E2")
def charter_swapped(folder: Path) -> Scene:
    """The bundle is of a study with a fifth member; the auditor was told of four."""
    return Scene(Forger(StudyLog(5).play(1)).seal(folder / "bundle"), Forger(clean_log()).trust)


@specimen("E2")
def signed_under_a_key_of_low_order(folder: Path) -> Scene:
    """A refusal in a site's name under the identity point: one signature fits every message."""
    log = StudyLog().set_up()
    log.plan()
    weak = bytes([1]) + bytes(31)
    forged = Author("site-a", "site", _Anything("site-a", weak), ORIGIN)
    data = of.StepRefused(step="plan", reason="policy")
    note = log.draft("site-a", "step.refused", data, author=forged, round=1)
    Ed25519PublicKey.from_public_bytes(weak).verify(weak + bytes(32), b"any message")  # the point of it
    log.add(note, lawful=False)
    made = Forger(log)
    return Scene(made.seal(folder / "bundle"), made.trust)


class _Anything(NoteSigner):
    """Signs without a private key: the point itself and a zero."""

    def __init__(self, name: str, point: bytes) -> None:
        self.verifier = VerifierKey(name, key_id(name, 1, point), 1, point)

    def sign(self, text: str) -> bytes:
        return f"{text}\n".encode() + signature_line(self.verifier, self.verifier.public + bytes(32))


@specimen("G32", "T1")
def key_of_low_order_in_the_charter(folder: Path) -> Scene:
    """A member's witness key in the charter is the identity point: anybody could play that witness."""
    members = charter_table()["members"]
    members[0]["witness_vkey"] = low_order_vkey("site-a", bytes([1]) + bytes(31), ALG_COSIGNATURE)
    with patch.object(note_module, "LOW_ORDER_KEYS", frozenset()):
        made = Forger(StudyLog(members=members).play(1))
        bundle = made.seal(folder / "bundle")
    honest = Forger(clean_log()).trust.members
    return Scene(bundle, made.trust.model_copy(update={"members": honest}))


def low_order_vkey(name: str, point: bytes, algorithm: int = 1) -> str:
    """Write a low-order point as a key, which no code of the product does."""
    blob = base64.b64encode(bytes([algorithm]) + point).decode()
    return f"{name}+{key_id(name, algorithm, point)}+{blob}"
