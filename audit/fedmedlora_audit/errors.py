"""The errors of the audit library.

Rules:
    * Verification raises; nothing here answers with a bool.
    * Every error carries the id of the check it breaks (AUDIT "Checks"), so that the coordinator, a site and
      an auditor name the same finding in the same way.
    * Sentences hold ids, counts, digests and positions only - never payload bytes, key material or clinical
      text.
"""


class AuditError(Exception):
    """Something offered as evidence is not what it claims to be.

    Attributes:
        check: Id of the broken check, such as ``E5`` or ``G37``.
        sentence: One plain sentence for a reviewer.
    """

    def __init__(self, sentence: str, *, check: str) -> None:
        """Keep the sentence and the id of the check."""
        super().__init__(f"{check}: {sentence}")
        self.check = check
        self.sentence = sentence


class ProofError(AuditError):
    """An inclusion or consistency proof, or a chunk of a blob, does not lead to the promised root."""

    def __init__(self, sentence: str, *, check: str = "C1") -> None:
        """Keep the sentence; a wrong path is a finding of check C1 unless said otherwise."""
        super().__init__(sentence, check=check)


class NoteError(AuditError):
    """A signed note or a verifier key is malformed, or a signature does not hold."""

    def __init__(self, sentence: str, *, check: str = "E2") -> None:
        """Keep the sentence; a bad signature is a finding of check E2 unless said otherwise."""
        super().__init__(sentence, check=check)


class CheckpointError(AuditError):
    """A checkpoint is malformed, of another log, or not signed by the log's key."""

    def __init__(self, sentence: str, *, check: str = "C2") -> None:
        """Keep the sentence; a bad checkpoint is a finding of check C2 unless said otherwise."""
        super().__init__(sentence, check=check)


class EventError(AuditError):
    """An event does not parse, is not of the closed schema, or is not canonical."""

    def __init__(self, sentence: str, *, check: str = "E1") -> None:
        """Keep the sentence; a malformed event is a finding of check E1 unless said otherwise."""
        super().__init__(sentence, check=check)


class CharterError(AuditError):
    """A charter lacks a field, contradicts itself, or promises too little."""

    def __init__(self, sentence: str, *, check: str = "G33") -> None:
        """Keep the sentence; a bad charter is a finding of rule G33 unless said otherwise."""
        super().__init__(sentence, check=check)


class LawError(AuditError):
    """An event breaks a rule of the protocol: its author may not say this now."""

    def __init__(self, check: str, sentence: str) -> None:
        """Keep the id of the broken rule and the sentence."""
        super().__init__(sentence, check=check)


class BundleError(AuditError):
    """A bundle's files are not the set its manifest promises.

    Attributes:
        file: Path inside the bundle, when one file is to blame.
    """

    def __init__(self, sentence: str, *, check: str = "B1", file: str | None = None) -> None:
        """Keep the sentence and the file; as text the error names the file before the sentence."""
        super().__init__(sentence if file is None else f"{file}: {sentence}", check=check)
        self.sentence = sentence
        self.file = file


class TrustError(AuditError):
    """A trust file is malformed: the auditor has nothing to judge by."""

    def __init__(self, sentence: str) -> None:
        """Keep the sentence."""
        super().__init__(sentence, check="T1")


class StampError(AuditError):
    """A time stamp is malformed, over something else, or not made by a trusted authority."""

    def __init__(self, sentence: str, *, check: str = "C7") -> None:
        """Keep the sentence; a bad stamp is a finding of check C7 unless said otherwise."""
        super().__init__(sentence, check=check)


class ExportError(AuditError):
    """A row does not fit the value sets of the form it was to be exported in: our mistake."""

    def __init__(self, sentence: str) -> None:
        """Keep the sentence."""
        super().__init__(sentence, check="export")
