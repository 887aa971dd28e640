"""`fedmedlora site renew`: the next certificate of an enrolled site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_cli.output import FolderOption, say


def command(
    folder: FolderOption = Path(),
    invitation: Annotated[
        Path | None,
        typer.Option(
            help="From `coordinator invite --again`: when the certificate has expired or is revoked."
        ),
    ] = None,
) -> None:
    """Get this site's next TLS key and certificate; also while `site run` is at work.

    Example: fedmedlora site renew --dir st-mary
    """
    from fedmedlora_site import renewal

    made = renewal.renew(folder, invitation=invitation)
    say(f"renewed: this site's certificate is valid until {made.ends:%Y-%m-%d %H:%M} UTC")
    if not made.confirmed:
        say("it is used from the next connection on; until then the one before is good too")
