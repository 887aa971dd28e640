"""A study of real processes whose bytes are counted on the wire: sites reach the coordinator by a relay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedmedlora_bench.cost.wire import Counter, Relay
from fedmedlora_cli.demo.federation import Federation
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_cli.demo.run import count_parameters
from fedmedlora_core.config import load_toml
from fedmedlora_core.study import Study
from fedmedlora_site.config import SiteConfig

ROUNDS = 4
_BYTES_PER_VALUE = 4


def count_study(out: Path, *, sites: int) -> dict[str, Any]:
    """Run a short study and count what each site sends and receives from its first call to its last.

    Args:
        out: Folder to make.
        sites: Hospitals, 3 to 10.

    Returns:
        Bytes of a site and round, the mean over sites and rounds, what a study costs besides its rounds
        included; beside those of a whole model. Updates are rehearsed, which changes what they say and not
        how long they are.
    """
    study, counters = _run(out, sites=sites, rounds=ROUNDS)
    up, down = (sum(getattr(c, way) for c in counters) / sites / ROUNDS for way in ("up", "down"))
    full = count_parameters() * _BYTES_PER_VALUE
    return {
        "profile": "tiny",
        "sites": sites,
        "rounds": ROUNDS,
        "update_bytes": study.packing().total_bytes,
        "up_bytes": round(up),
        "down_bytes": round(down),
        "full_model_bytes": full,
        "up_reduction": 1 - up / full,
        "down_reduction": 1 - down / full,
    }


def _run(out: Path, *, sites: int, rounds: int) -> tuple[Study, list[Counter]]:
    """Run one study; returns it and each site's counter."""
    options = DemoOptions(out=out, sites=sites, rounds=rounds, rehearsal=True, baselines=False, vote_every=0)
    out.mkdir(parents=True, exist_ok=True)
    (out / "logs").mkdir(exist_ok=True)
    federation = Federation(options, lambda *_: None)
    federation.provision()
    federation.import_notes()
    federation.agree()
    folders = [federation.site(name) for name in options.site_ids]
    host, _, port = load_toml(folders[0] / "site.toml", SiteConfig).site.coordinator_address.rpartition(":")
    relay = Relay(host, int(port))
    try:
        counters = list(_redirect(relay, folders))
        federation.train()
    finally:
        relay.close()
    return Study.load(federation.study), counters


def _redirect(relay: Relay, folders: Iterable[Path]) -> Iterable[Counter]:
    """Have each site call a port of the relay."""
    for folder in folders:
        port, counter = relay.open()
        file = folder / "site.toml"
        config = SiteConfig.load(file)
        address = config.site.model_copy(update={"coordinator_address": f"127.0.0.1:{port}"})
        config.model_copy(update={"site": address}).write(file)
        yield counter
