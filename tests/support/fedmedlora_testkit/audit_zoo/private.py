"""Whole private studies in which sites and coordinator agreed to lie about the budget, well sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import Entry
from fedmedlora_testkit.audit_charges import PRIVACY, charge_of
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.audit_zoo.cage import Scene, specimen

Lie = Callable[["LyingLog", str], dict[str, Any] | None]
"""What a site changes in its charge; empty for an honest one, None for no charge at all."""
LIAR = "site-a"


class LyingLog(StudyLog):
    """A private study in which the coordinator logs what sites say, lawful or not.

    Args:
        lie: What becomes of each charge.
        rounds: Of the charter.
        privacy: Changes of the charter's table.
    """

    def __init__(self, lie: Lie, *, rounds: int = 3, **privacy: Any) -> None:
        super().__init__(privacy={**PRIVACY, **privacy}, training={"rounds": rounds})
        self.lie = lie
        self.set_up()

    def charge(self, site: str, **changes: Any) -> Entry:
        lie = self.lie(self, site)
        if lie is None:
            return self.entries[-1]
        data = charge_of(self.state, site, **lie, **changes)
        try:
            return self.say(site, "dp.spent", data, round=self.number)
        except LawError:
            return self.force(site, "dp.spent", data, round=self.number)

    def upload(self, site: str) -> Entry:
        try:
            return super().upload(site)
        except LawError:
            return self.force(
                site, "update.submitted", self.update_data(), **self.blob(site, "masked-update")
            )

    def play_round(self, drop: Mapping[str, Iterable[str]] | None = None) -> Self:
        super().play_round(drop)
        return self

    def sealed(self, folder: Path) -> Scene:
        """Close the study and hand it to an auditor."""
        made = Forger(self.finish())
        return Scene(made.seal(folder / "bundle"), made.trust)


def honest(_log: StudyLog, _site: str) -> dict[str, Any]:
    """No lie."""
    return {}


def figures(*milli: int) -> Lie:
    """One site says these figures, one a round."""
    return lambda log, site: {"epsilon_milli": milli[log.number - 1]} if site == LIAR else {}


def private_log() -> StudyLog:
    """The honest study: a round, one that is aborted after the uploads, one with a drop-out."""
    log = LyingLog(honest)
    log.play_round()
    log.to_step("survivors")
    log.abort()
    return log.play_round({"upload": ["site-d"]})


def private_scene(folder: Path) -> Scene:
    """That study in a bundle."""
    made = Forger(private_log().finish())
    return Scene(made.seal(folder / "bundle"), made.trust)


@specimen("D1")
def epsilon_never_composed(folder: Path) -> Scene:
    """A site says each round what one round costs; three of them cost more."""
    log = LyingLog(figures(1644, 1644, 1644))
    return log.play_round().play_round().play_round().sealed(folder)


@specimen("D1")
def aborted_round_left_out_of_the_figure(folder: Path) -> Scene:
    """Round 2 was aborted after the uploads; a site goes on as if it had cost nothing."""
    log = LyingLog(figures(1644, 1847, 1847)).play_round()
    log.to_step("survivors")
    log.abort()
    return log.play_round().sealed(folder)


@specimen("D2")
def study_trained_at_another_rate(folder: Path) -> Scene:
    """All sites draw a quarter more often than the charter says, and charge that."""
    log = LyingLog(lambda log, site: {"sampling_micro": 25_000})
    return log.play_round().sealed(folder)


@specimen("D3")
def round_after_the_budget_was_spent(folder: Path) -> Scene:
    """Budget for two rounds; the study makes a third and says so."""
    return LyingLog(honest, epsilon_milli=1900).play_round().play_round().play_round().sealed(folder)


@specimen("D3", "D1")
def overspent_and_hidden(folder: Path) -> Scene:
    """Budget for two rounds; in the third a site says once more what two cost."""
    log = LyingLog(figures(1644, 1847, 1847), epsilon_milli=1900)
    log.play_round().play_round()
    return log.play_round({"train": ["site-b"]}).sealed(folder)


@specimen("D4")
def study_with_weak_noise(folder: Path) -> Scene:
    """A site trains with nine tenths of the noise, and charges what that costs."""
    log = LyingLog(lambda log, site: {"noise_milli": 900} if site == LIAR else {})
    return log.play_round().sealed(folder)


@specimen("D5")
def charge_after_its_upload(folder: Path) -> Scene:
    """A site uploads first and charges then."""
    log = LyingLog(lambda log, site: None if site == LIAR and log.state.session is None else {})
    log.to_step("survivors")
    log.charge(LIAR)
    log.answer_all(set())
    log.abort()
    return log.play_round().sealed(folder)


@specimen("D5")
def upload_in_an_aborted_round_unpaid(folder: Path) -> Scene:
    """In a round that is aborted later a site uploads without a charge: it was released all the same."""
    log = LyingLog(lambda log, site: None if site == LIAR and log.number == 1 else {})
    log.to_step("survivors")
    log.abort()
    return log.play_round().sealed(folder)
