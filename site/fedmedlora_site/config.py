"""The site's configuration file `site.toml`.

Secrets never sit in it. `trainer.kind = "rehearsal"` is for tests and rehearsals of a deployment only: it
makes a small deterministic update without any model, so that a whole run can be tried in seconds. Its
updates teach nothing; a real run uses "process".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

import tomli_w
from pydantic import Field

from fedmedlora_core.config import Section, load_toml
from fedmedlora_protos.operating.local_page import MetricsSection
from fedmedlora_site.durable import write_atomic

SCHEMA: Final = "fedmedlora-site/1"
MOST_THREADS: Final = 8  # what the work asks of the memory is spent by then

Seconds = Annotated[float, Field(gt=0, le=86_400)]
DeviceName = Literal["auto", "cpu", "cuda"]


class SiteSection(Section):
    """Who this site is and whom it calls; the site dials out, nobody dials in."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    coordinator_address: Annotated[str, Field(pattern=r"^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$")]


class ModelSection(Section):
    """Where the frozen base model lies; empty means the small one that comes with this package."""

    path: str = ""


class TrainerSection(Section):
    """How this site trains: a child process with its own memory, or a rehearsal without a model.

    `update.ready` is held back to the next multiple of `ready_slot_seconds` of the clock, so that the time
    between plan and readiness says less about how many notes were trained on (decision G47).

    `device` "auto" takes a GPU where there is one and the charter's base model is stored in less than
    float32. `processes` train together, each on a GPU of its own; their number changes no more than rounding.
    A killed training goes on from a state that is at most `checkpoint_seconds` old; 0 keeps one each step.

    `gradient_checkpointing` and `micro_batch` (examples computed together, 0 for the charter's `batch_size`)
    need less memory and more time, in the middle of a round too. Where the memory does not suffice, the
    training is tried again every `memory_retry_seconds` for as long as `memory_patience_seconds`.
    """

    kind: Literal["process", "rehearsal"] = "process"
    ready_slot_seconds: Annotated[int, Field(ge=1, le=86_400)] = 1
    device: DeviceName = "auto"
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    checkpoint_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    gradient_checkpointing: bool = False
    micro_batch: Annotated[int, Field(ge=0, le=65_536)] = 0
    memory_retry_seconds: Seconds = 60.0
    memory_patience_seconds: Annotated[float, Field(ge=0, le=604_800)] = 7200.0

    @property
    def rounding(self) -> str:
        """What of these settings the last bits of an update depend on (R4.13.4)."""
        return f"{self.device} micro-batch {self.micro_batch}" if self.micro_batch else self.device


class NetworkSection(Section):
    """Last resorts and pauses of the connection; none of them changes a result, none has to fit the line.

    A dead connection is found by keep-alive pings. The deadlines end only a call that a living coordinator
    does not answer.
    """

    call_timeout_seconds: Seconds = 600.0
    chunk_timeout_seconds: Seconds = 3600.0
    reconnect_first_seconds: Seconds = 0.5
    reconnect_most_seconds: Seconds = 15.0


class CertificateSection(Section):
    """How this site's certificate stays valid over the years.

    With `renew` the agent gets the next one by itself once less than a third of the time is left. It looks
    when it starts, and then every `check_hours` at most, at an instant that is drawn.
    """

    renew: bool = True
    check_hours: Annotated[float, Field(gt=0, le=168)] = 6.0


class PerformanceSection(Section):
    """Settings that change the time something takes, never its result."""

    mask_threads: Annotated[int, Field(ge=0, le=256)] = 0
    ckks_processes: Annotated[int, Field(ge=0, le=16)] = 0  # 0: one a core

    @property
    def threads(self) -> int:
        """Threads for masks, encoding and hashes; 0 in the file stands for every core that may be used."""
        return self.mask_threads or min(MOST_THREADS, len(os.sched_getaffinity(0)))


class PrivacySection(Section):
    """Where the privacy ledger lies; empty means `ledger.jsonl` in the site's folder.

    Several folders with notes of the same patients - one for each study - name one file here, or each would
    count only its own studies. The folder of the file must exist; it belongs to one machine.
    """

    ledger: str = ""


class SiteConfig(Section):
    """The whole of `site.toml`."""

    schema_: Literal["fedmedlora-site/1"] = Field(alias="schema")
    site: SiteSection
    model: ModelSection = ModelSection()
    trainer: TrainerSection = TrainerSection()
    network: NetworkSection = NetworkSection()
    certificate: CertificateSection = CertificateSection()
    performance: PerformanceSection = PerformanceSection()
    privacy: PrivacySection = PrivacySection()
    metrics: MetricsSection = MetricsSection()

    @classmethod
    def load(cls, path: Path) -> SiteConfig:
        """Read `site.toml`.

        Raises:
            ConfigError: The file is missing, not TOML, or has an unknown key.
        """
        return load_toml(path, cls)

    def write(self, path: Path) -> None:
        """Write the file, all or nothing."""
        write_atomic(path, tomli_w.dumps(self.model_dump(mode="json", by_alias=True)).encode())
