"""Stages of a demo federation, so that several tests go on from the same one.

Enrolment, import and agreement are some thirty processes. What a test is about comes after them, and a copy
of the folder is as good as a federation of its own: addresses and pins are in its files. Copies of one stage
listen at the same address, so only one of them runs at a time: the tests of one file.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fedmedlora_cli.demo.federation import Federation, clear_earlier_run
from fedmedlora_cli.demo.options import DemoOptions


def federation_of(options: DemoOptions) -> Federation:
    """A federation whose progress nobody watches."""
    return Federation(options, lambda party, progress: None)


def enrolled(options: DemoOptions) -> Path:
    """Enrol the hospitals and import their notes."""
    clear_earlier_run(options.out)
    federation = federation_of(options)
    federation.provision()
    federation.import_notes()
    return options.out


def agreed(stage: Path, options: DemoOptions) -> Path:
    """Go on from a copy of enrolled hospitals: have them agree on the study of these options."""
    shutil.copytree(stage, options.out)
    federation_of(options).agree()
    return options.out
