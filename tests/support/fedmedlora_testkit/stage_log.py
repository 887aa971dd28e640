"""The log of a stage: a study's log whose payloads are real."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.chain import event_time
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.events import Object, Saw
from fedmedlora_audit.law import State
from fedmedlora_core.study import Study
from fedmedlora_testkit.audit_log import StudyLog


class StageLog(StudyLog):
    """A study's log whose charter is a real study and whose payloads are real blobs."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.charter = study.canonical_json()
        self.terms = CharterTerms.from_json(self.charter)
        self.state = State.begin(self.terms)
        self.payloads: dict[tuple[str, str, str], bytes] = {}

    def draft(self, actor: str, type_: str, data: of.Data, **fields: Any) -> bytes:
        """Sign an event as of now: the agent under test has the real clock.

        R5.1.2: as the ledger writes it, a receipt has seen what came before the event just added.
        """
        if type_ == "receipt":
            index = self.tree.size - 1
            fields.setdefault("saw", Saw(size=index, root=self.tree.root(index).hex()))
        fields.setdefault("time", event_time(datetime.now(UTC)))
        return super().draft(actor, type_, data, **fields)

    def blob(self, site: str, role: str) -> dict[str, Any]:
        data = self.payloads[site, role, self.session.sid]
        item = Object.model_validate({"role": role, "digest": blob_digest(data), "bytes": len(data)})
        return {"round": self.number, "objects": [item]}
