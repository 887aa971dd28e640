"""What a site trains for itself and never sends: B of FedSA-LoRA, encrypted (PROTOCOL §4.11).

A round trains it from what the last closed round that this site trained in has left, so a training that is
repeated - after a kill, or because its round was aborted - begins at the same values and gives the same
bytes. The trainer's process reads and writes it in the vault's form; it is never on the disk in the clear
unless the operator exports the adapter (`personal_export`).
"""

from __future__ import annotations

from fedmedlora_audit.law import State
from fedmedlora_core.codec import FloatVector
from fedmedlora_site.vault import Vault


def personal_name(round_number: int) -> str:
    """Name under which the vault keeps what a round has left."""
    return f"personal-{round_number:05d}"


def last_closed(vault: Vault, state: State) -> int:
    """Return the last closed round of which this site has a result; 0 if there is none (R4.11.3)."""
    held = (done.round for done in state.closed_rounds if vault.holds(personal_name(done.round)))
    return max(held, default=0)


# R4.11.2: whoever loads it - the trainer, the export - has no way to send anything.
def load_start(vault: Vault, round_number: int) -> FloatVector | None:
    """Load what a round has left; None for round 0: the site begins as the study's adapter does.

    Raises:
        FolderError: It is missing or was changed on disk.
    """
    return vault.load_floats(personal_name(round_number))[0] if round_number else None


def tidy(vault: Vault, state: State) -> None:
    """Between rounds: keep what the last closed round has left and nothing else."""
    kept = personal_name(last_closed(vault, state))
    for name in vault.names():
        if name != kept:
            vault.delete(name)
