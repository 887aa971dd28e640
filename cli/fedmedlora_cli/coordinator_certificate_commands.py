"""`fedmedlora coordinator renew|revoke|reinstate|certificates`: certificates over the years."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_cli.output import FolderOption, JsonOption, say, write_json

SiteArgument = Annotated[str, typer.Argument(help="Id of the site.", metavar="SITE")]


def renew(folder: FolderOption = Path()) -> None:
    """Issue the listeners' next certificate; sites pin the CA and notice nothing. Also while serving.

    Example: fedmedlora coordinator renew --dir centre
    """
    from fedmedlora_coordinator.folder import Folder
    from fedmedlora_coordinator.server_certificate import renew_server

    made = renew_server(Folder(folder))
    say(f"renewed: the server certificate is valid until {made.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


def revoke(
    site: SiteArgument,
    folder: FolderOption = Path(),
    reason: Annotated[
        str, typer.Option(help="key-compromised, site-left, machine-lost, mistake or unspecified.")
    ] = "unspecified",
) -> None:
    """Refuse all certificates of a site and its unused invitations, also on open connections.

    Example: fedmedlora coordinator revoke st-mary --dir centre --reason key-compromised
    """
    from fedmedlora_coordinator import certificate_commands

    count = certificate_commands.revoke(folder, site, reason)
    say(f"revoked {count} certificates of '{site}'; a coordinator that is serving ends its connections now")
    say(f"the way back: `coordinator reinstate {site}`, or `coordinator invite {site} --again`")


def reinstate(site: SiteArgument, folder: FolderOption = Path()) -> None:
    """Take a site's last revocation back.

    Example: fedmedlora coordinator reinstate st-mary --dir centre
    """
    from fedmedlora_coordinator import certificate_commands

    good = certificate_commands.reinstate(folder, site)
    say(
        f"'{site}' may connect again"
        if good
        else f"no certificate of '{site}' is valid any more; run `coordinator invite {site} --again`"
    )


def certificates(folder: FolderOption = Path(), json_file: JsonOption = None) -> None:
    """List every certificate: whose, from when until when, valid, renewed, expired or revoked.

    Example: fedmedlora coordinator certificates --dir centre
    """
    from fedmedlora_coordinator import certificate_commands

    rows = certificate_commands.listed(folder)
    write_json(json_file, {"certificates": rows})
    if json_file is None:
        for row in rows:
            name, span = row["site"] or row["of"], f"{row['from']} to {row['until']}"
            state = " ".join(filter(None, [row["state"], row["reason"], row["since"]]))
            say(f"{name}  {span}  {state}  serial {row['serial']}")
