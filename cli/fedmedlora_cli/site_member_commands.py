"""`fedmedlora site rotate-keys` and `site leave`: what a member says of itself while a study runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_cli.output import FolderOption, say


def rotate_keys(
    folder: FolderOption = Path(),
    witness: Annotated[bool, typer.Option("--witness", help="Also change the witness key.")] = False,
) -> None:
    """Change this site's event key: the old key signs the new one into the log, where all others see it.

    Stop `site run` before, and start it again afterwards.

    Example: fedmedlora site rotate-keys --dir st-mary --witness
    """
    from fedmedlora_site import errand

    changed = errand.rotate_keys(folder, ("event", "witness") if witness else ("event",))
    for kind, key_id in changed.items():
        say(f"the {kind} key in use is {key_id}; the old private key is deleted")


def leave(folder: FolderOption = Path()) -> None:
    """Leave the running study for good; the others go on if a threshold of members remains.

    Stop `site run` before. There is no way back but a new charter.

    Example: fedmedlora site leave --dir st-mary
    """
    from fedmedlora_site import errand

    remain = errand.leave(folder)
    say(f"this site has left; {remain} members remain")
