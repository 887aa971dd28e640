"""States of an unfinished training, encrypted in the site's vault, so that a killed one can go on.

A state holds the half-trained adapter, which says as much of the notes as an update does: it lies where
updates lie, under the same key, and goes when the update is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fedmedlora_site.errors import FolderError
from fedmedlora_site.vault import Vault

CHECKPOINT_NAME: Final = "unfinished"


class VaultCheckpoints:
    """The last state of one site's training.

    Args:
        vault: Where it lies.
        every_seconds: Least time between two states; 0 keeps one after each step.
        clock: Seconds that only grow.
    """

    def __init__(
        self, vault: Vault, every_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count from now."""
        self._vault = vault
        self._every = every_seconds
        self._clock = clock
        self._last = clock()

    def read(self) -> bytes | None:
        """The last state; None without one, or where it was changed on disk: training then begins anew."""
        if not self._vault.holds(CHECKPOINT_NAME):
            return None
        try:
            return self._vault.load(CHECKPOINT_NAME)
        except FolderError:
            return None

    def due(self) -> bool:
        """Whether it is time to write another."""
        return self._clock() - self._last >= self._every

    def write(self, state: bytes) -> None:
        """Keep a state durably in place of the one before."""
        self._vault.store(CHECKPOINT_NAME, state)
        self._last = self._clock()

    def clear(self) -> None:
        """Delete the state: the training is over."""
        self._vault.delete(CHECKPOINT_NAME)
