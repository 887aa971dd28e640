"""A stage of the CKKS suite: the one real site holds the key, or does not; all ciphertexts are real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora_testkit.ckks import ckks_overrides, decrypted, encrypted
from fedmedlora_testkit.stage import Stage
from fedmedlora_testkit.stage_site import staged_study


class CkksStage(Stage):
    """A stage whose uploads are ciphertexts and whose sum comes from the holders of the key."""

    def __init__(self, root: Path, *, custody: str = "holder", holder: str = "site-a") -> None:
        super().__init__(root, staged_study(**ckks_overrides(custody, holder)))

    def sealed(self, vector: np.ndarray[Any, np.dtype[np.uint32]]) -> bytes:
        """The upload of an encoded update."""
        return encrypted(self.study, vector)

    def respond(self, site: str, shares: bytes) -> None:
        """Answer the request for another site: with the true sum, where that site holds the key."""
        custody = self.log.terms.custody
        if custody is None or not custody.decrypts(site):
            super().respond(site, shares)
            return
        self.keep(site, "decrypted-sum", self.ring_sum())
        data = self.log.response_data()
        self.log.say(site, "unmask.response", data, **self.log.blob(site, "decrypted-sum"))

    def ring_sum(self) -> bytes:
        """Add and decrypt what was uploaded: the true sum."""
        uploads = [(i, self.blobs[d]) for i, d in enumerate(self.log.session.u3.values(), start=1)]
        return decrypted(self.study, uploads, threshold=self.log.terms.threshold)
