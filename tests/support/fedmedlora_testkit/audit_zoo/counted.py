"""A whole study with validation counts in which everybody agreed on a sum that nobody can have."""

from pathlib import Path

from fedmedlora_testkit import audit_counts as counts
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen


@specimen("G49")
def counts_said_to_be_of_fewer_sites(folder: Path) -> Scene:
    """The published counts name three sites, and four opened theirs: somebody's notes would look better."""
    log = counts.begin_counting(StudyLog())
    counts.to_counts(log, "unmask")
    log.answer_all(set())
    told = counts.counts_data(log, sites=3)
    log.force("coordinator", "validation.counted", told, round=log.number)
    for site in log.sites:
        counts.check(log, site)
    counts.close(log)
    log.say("coordinator", "model.released", counts.released_data(log))
    made = Forger(log)
    return Scene(made.seal(folder / "bundle"), made.trust)
