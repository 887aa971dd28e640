"""Peak memory of a round above its base, in vectors, on the code that sites and coordinators run.

Each figure comes from a process of its own, since a peak cannot be taken back: everything is set up, the
kernel's high-water mark is reset, the round's work is done, and the mark is read.

    site         from the trained update in the vault to the masked upload on the disk
    coordinator  from the uploads on the disk to the published sum and the next adapter

Linux only: the high-water mark is reset through /proc.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_bench.resident import forget_peak, peak
from fedmedlora_coordinator.aggregate import Summation, aggregate
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.model import GlobalModel
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import EXTRAS
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.profile import Profile, compose_study
from fedmedlora_core.study import LogTerms, Member, ModelTerms, Study, StudyInfo
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.secagg.reference import reference_view
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream
from fedmedlora_site.blobs import UploadFolder
from fedmedlora_site.training import TrainingOutcome
from fedmedlora_site.update import encode_update, mask_and_store
from fedmedlora_site.vault import Vault

Role = Literal["site", "coordinator"]
NOTES = 100


@dataclass(frozen=True)
class Memory:
    """Peak of one role in one round.

    Args:
        role: Whose.
        dimension: Values of the adapter.
        sites: Sites in the sum.
        base_bytes: Resident memory before the round's work.
        peak_bytes: Highest resident memory in it.
        vectors: (peak - base) in vectors of `dimension` four-byte values.
    """

    role: Role
    dimension: int
    sites: int
    base_bytes: int
    peak_bytes: int
    vectors: float

    @property
    def above_bytes(self) -> int:
        """Peak above the base."""
        return self.peak_bytes - self.base_bytes


def measure_memory(
    role: Role, dimension: int, *, sites: int = 4, wire_bits: int = 24, threads: int = 2
) -> Memory:
    """Measure one role in a process of its own.

    Args:
        role: "site" or "coordinator".
        dimension: Values of the adapter.
        sites: Members, all of which are in the sum; >= 3.
        wire_bits: Width on the wire.
        threads: Worker threads of the site; the coordinator takes the cores that there are.

    Raises:
        RuntimeError: The process failed; the message is its last line.
    """
    command = [sys.executable, "-m", "fedmedlora_bench.memory", role, str(dimension)]
    command += ["--sites", str(sites), "--wire-bits", str(wire_bits), "--threads", str(threads)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return Memory(**json.loads(done.stdout))


def make_study(dimension: int, *, sites: int, wire_bits: int) -> tuple[Study, Adapter]:
    """Make a study of one large trainable tensor, and its initial adapter."""
    tensors = {
        "layer.lora_A.weight": np.ones((1, 1), dtype=np.float32),
        "layer.lora_B.weight": np.zeros((dimension, 1), dtype=np.float32),
    }
    adapter = Adapter(tensors, ("layer.lora_B.weight",), {"peft_type": "LORA"})
    profile = Profile.load("tiny").override(
        secure_aggregation__wire_bits=wire_bits, aggregation__weight_max=8192
    )
    members = [
        Member(
            id=f"site-{number}",
            event_vkey=_key(f"site-{number}", 1).vkey,
            witness_vkey=_key(f"site-{number}", 2).vkey,
        )
        for number in range(1, sites + 1)
    ]
    study = compose_study(
        profile,
        info=StudyInfo(id="memory", seed=1),
        log=LogTerms(
            origin="memory.example/log",
            log_vkey=_key("memory.example/log", 1).vkey,
            coordinator_vkey=_key("coordinator", 1).vkey,
        ),
        model=ModelTerms(kind="causal", name="memory", digest="0" * 64),
        members=members,
        initial_digest=adapter.digest,
        dimension=dimension,
    )
    return study, adapter


def _key(name: str, number: int) -> NoteSigner:
    seed = f"{name}|{number}".encode().ljust(32, b"\0")
    if number == 1:
        return NoteSigner.from_seed(name, seed)
    return NoteSigner.from_seed(name, seed, algorithm=ALG_COSIGNATURE)


class _Session:
    """The parties of one session, ready to mask, and what they have sent."""

    def __init__(self, study: Study) -> None:
        self.terms = SessionTerms(
            sid=b"m" * 32,
            n=len(study.members),
            threshold=study.threshold,
            colluding=study.secure_aggregation.colluding_sites,
        )
        self.parties = {i: Party(self.terms, i) for i in range(1, self.terms.n + 1)}
        self.keys = {i: party.advertise() for i, party in self.parties.items()}
        view = reference_view(self.terms.sid, self.keys)
        self.shares = {i: party.share(self.keys, view) for i, party in self.parties.items()}
        for party in self.parties.values():
            party.fix(self.shares)

    def opened(self) -> dict[int, bytes]:
        """Let everybody agree to everybody and open."""
        everybody = tuple(self.parties)
        for party in self.parties.values():
            party.agree(everybody)
        return {i: party.open(everybody, everybody) for i, party in self.parties.items()}


def _train(study: Study, vault: Vault, number: int) -> None:
    """Put a trained update into a vault, as the trainer's process does."""
    drawn = np.random.default_rng(number)
    delta = drawn.standard_normal(study.adapter.dimension, dtype=np.float32)
    np.multiply(delta, np.float32(0.004), out=delta)
    vault.store_floats("trained", delta)


def _send(
    rule: GlobalStep, study: Study, vault: Vault, party: Party, uploads: UploadFolder, threads: int
) -> str:
    """What a site does from the trained update to the stored upload; returns the upload's digest."""
    delta, room = vault.load_floats("trained", spare=1 + EXTRAS)
    outcome = TrainingOutcome(delta, NOTES, 0.5, room)
    del delta, room
    stream, site = Keystream(b"r" * 32), study.member_ids[0]
    encoded, _ = encode_update(
        study,
        rule,
        outcome,
        stream,
        site=site,
        round_number=1,
        base="0" * 64,
        noise_key=bytes,
        threads=threads,
    )
    vault.store_ring("update", encoded)
    del outcome, encoded
    return mask_and_store(study.packing(), vault.load_ring("update"), party, uploads, threads=threads).digest


def _site(root: Path, study: Study, adapter: Adapter, threads: int) -> Callable[[], object]:
    session, vault = _Session(study), Vault(root / "vault", b"k" * 32)
    rule = GlobalStep(study, adapter)
    uploads = UploadFolder(root / "uploads")
    _train(study, vault, 1)
    return lambda: _send(rule, study, vault, session.parties[1], uploads, threads)


def _coordinator(root: Path, study: Study, adapter: Adapter, threads: int) -> Callable[[], object]:
    session, blobs = _Session(study), BlobStore(root / "blobs")
    uploads, rule = UploadFolder(root / "uploads"), GlobalStep(study, adapter)
    digests = []
    for number, party in session.parties.items():
        vault = Vault(root / f"vault-{number}", b"k" * 32)
        _train(study, vault, number)
        upload = uploads.open(_send(rule, study, vault, party, uploads, threads))
        digests.append(blobs.put_chunks(upload.chunk(index)[0] for index in range(upload.chunk_count)))

    def stored(payloads: Mapping[int, bytes]) -> dict[int, str]:
        return {party: blobs.put_bytes(payload) for party, payload in payloads.items()}

    summation = Summation(
        terms=session.terms,
        packing=study.packing(),
        uploads=tuple(digests),
        keys=stored(session.keys),
        shares=stored(session.shares),
        survivors=tuple(session.parties),
        opened=stored(session.opened()),
    )
    model = GlobalModel(study, adapter)
    return lambda: aggregate(summation, blobs, model, 1)


def main() -> None:
    """Set one role up, do its part of a round, and print its peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["site", "coordinator"])
    parser.add_argument("dimension", type=int)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--wire-bits", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    study, adapter = make_study(options.dimension, sites=options.sites, wire_bits=options.wire_bits)
    with tempfile.TemporaryDirectory() as folder:
        ready = _site if options.role == "site" else _coordinator
        work = ready(Path(folder), study, adapter, options.threads)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the setting up left free is not part of the base
        base = forget_peak()
        kept = work()
        most = peak()
        del kept
    above = (most - base) / (4 * options.dimension)
    found = Memory(options.role, options.dimension, options.sites, base, most, round(above, 3))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main()
