"""The option that names aggregation strategies, for the commands that make a study."""

from __future__ import annotations

from typing import Annotated

import typer

from fedmedlora_core.strategies import STRATEGIES

StrategyOption = Annotated[
    list[str] | None,
    typer.Option(help=f"Aggregation strategy, may be repeated: {', '.join(STRATEGIES)}."),
]
