"""Record a time stamp whose authority's certificate expires a minute later: `python tests/vectors/record_…`.

Nobody can wait for a certificate to expire in a test, so a real stamp of `openssl ts` is kept. The keys are
made for it and thrown away: recording again gives other bytes of the same meaning.
"""

import base64
import datetime as dt
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "support"))

from cryptography.hazmat.primitives.serialization import Encoding  # noqa: E402

from fedmedlora_audit.checkpoint import Checkpoint  # noqa: E402
from fedmedlora_testkit.tsa import Authority  # noqa: E402

ORIGIN, SIZE, ROOT = "test.example/study-1", 152, bytes(range(32))


def record(path: Path) -> None:
    """Make an authority for one minute, let it stamp one head, and write both down."""
    now = dt.datetime.now(dt.UTC)
    with tempfile.TemporaryDirectory() as folder:
        valid = (now - dt.timedelta(minutes=1), now + dt.timedelta(minutes=1))
        authority = Authority(Path(folder) / "authority", valid=valid)
        stamp = authority.stamp(Checkpoint(ORIGIN, SIZE, ROOT))
    table = {
        "origin": ORIGIN,
        "size": SIZE,
        "root": ROOT.hex(),
        "stamp": base64.b64encode(stamp).decode(),
        "tsa_root": base64.b64encode(authority.root.public_bytes(Encoding.DER)).decode(),
        "expired": authority.certificate.not_valid_after_utc.isoformat(),
    }
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(HERE / "stamps" / "expired.json")
