"""The terms of a charter that the law needs (AUDIT "Charter", decisions 8, G32, G33).

The charter is the study's canonical JSON; its SHA-256 is what every member signs. Here only the fields that
bear on who may say what are read; the others (model, labels, training) stay opaque.

Rules:
    * The threshold is recomputed: ``T = floor((n + c) / 2) + 1`` over the full member list, for the life of
      the charter.
    * Refused: another T, ``T - c < 2``, ``min_sites < 3``, ``min_sites > T``, a weight bound below 1.
    * A member's id, event key and witness key are all distinct; low-order keys are no keys.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import rfc8785

from fedmedlora_audit.charter_fields import Fields
from fedmedlora_audit.errors import CharterError, NoteError
from fedmedlora_audit.events import COORDINATOR_ID
from fedmedlora_audit.note import ALG_ED25519, WITNESS_ALGORITHMS, VerifierKey
from fedmedlora_audit.privacy_plan import PrivacyPlan
from fedmedlora_audit.retention import DEFAULT_YEARS, MAX_YEARS
from fedmedlora_audit.site_noise import SiteNoise
from fedmedlora_audit.validation_terms import ValidationRules

CKKS_SUITE: Final = "ckks/1"
SUITES: Final[Mapping[str, str]] = {"ckks": CKKS_SUITE, "none": "plain/1"}
MASKED_SUITES: Final[Mapping[str, str]] = {"hybrid": "xwing-aes256ctr/2", "x25519": "x25519-aes256ctr/2"}
OPTIMISERS: Final = frozenset({"momentum", "adam"})
OPTIMISER_LABEL: Final = b"fedmedlora/v1/optimiser\0"
"""Begins what the digest of an optimiser's state is made of (R4.9.3)."""


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """A member's public keys, in vkey form."""

    event_vkey: str
    witness_vkey: str


class GraphNumbers(NamedTuple):
    """The graph of a large study (R6.15.1); whether the numbers are safe is for sites and coordinator."""

    neighbours: int
    share_threshold: int
    window_survivors: int


@dataclass(frozen=True, slots=True)
class KeyCustody:
    """Who holds the CKKS key of a study (PROTOCOL §6.16).

    Attributes:
        holder: Id of the one site that decrypts; None when every member holds the key.
        context: Digest of the public context, 64 hex.
    """

    holder: str | None
    context: str

    def decrypts(self, site: str) -> bool:
        """Say whether a member holds the key."""
        return self.holder is None or self.holder == site


@dataclass(frozen=True, slots=True)
class CharterTerms:
    """What the law takes from the charter.

    Attributes:
        digest: SHA-256 of the charter's canonical JSON, 64 hex.
        study_id: The study's id.
        origin: The log's origin.
        log_vkey: The key that signs checkpoints.
        coordinator_vkey: The key that signs the coordinator's events.
        members: Keys by member id, in charter order.
        colluding_sites: c, how many members may collude with the coordinator.
        threshold: T, the least number of sites in every list of a session.
        min_sites: Policy floor below which no sum is opened.
        rounds: Number of the last round.
        suite: How uploads are masked.
        weight_max: Largest weight of one site.
        initial_adapter: Digest of the adapter that training starts from.
        wire_bits: Width in bits of a word of an upload; for those who recompute sums.
        graph: Numbers of the k-regular graph; None for the complete one.
        demands: Checks that this charter asks for beyond the law (ids of AUDIT "Checks").
        vote_every: A vote is taken in every so-manieth round (PROTOCOL §4.7); 0 for never.
        custody: Who holds the CKKS key; None in every other suite.
        retention_years: How long the log is kept whole after the end of the run; 1 to 100.
        initial_state: Digest of the first state of the server's optimiser, 64 hex; None without one.
        privacy: The privacy budget and what a round costs of it; None without differential privacy.
        site_noise: Noise inside the masks and what it costs; None without it.
        validation: How validation counts are summed (PROTOCOL §4.15); None for never.
    """

    digest: str
    study_id: str
    origin: str
    log_vkey: str
    coordinator_vkey: str
    members: Mapping[str, MemberKeys]
    colluding_sites: int
    threshold: int
    min_sites: int
    rounds: int
    suite: str
    weight_max: int
    initial_adapter: str
    demands: frozenset[str]
    wire_bits: int = 32
    graph: GraphNumbers | None = None
    vote_every: int = 0
    custody: KeyCustody | None = None
    retention_years: int = DEFAULT_YEARS
    initial_state: str | None = None
    privacy: PrivacyPlan | None = None
    site_noise: SiteNoise | None = None
    validation: ValidationRules | None = None

    @property
    def n(self) -> int:
        """Number of members."""
        return len(self.members)

    @property
    def member_ids(self) -> tuple[str, ...]:
        """Ids of the members in charter order."""
        return tuple(self.members)

    def votes_in(self, round_number: int) -> bool:
        """Whether a round's aggregate is voted on before it is taken (R4.7.1)."""
        return self.vote_every > 0 and round_number % self.vote_every == 0

    def counts_in(self, round_number: int) -> bool:
        """Whether validation counts of a round's adapter are summed (R4.15.1)."""
        rules = self.validation
        return rules is not None and (round_number % rules.every == 0 or round_number == self.rounds)

    @classmethod
    def from_json(cls, charter: bytes) -> Self:
        """Read the terms from the charter's canonical JSON.

        Raises:
            CharterError: Not canonical, a field is missing or wrong, or the numbers promise too little.
        """
        study = Fields(_load(charter), "charter")
        log, rules = study.section("log"), study.section("secure_aggregation")
        members = _members(study.rows("members"))
        suite = _suite(rules)
        terms = cls(
            digest=hashlib.sha256(charter).hexdigest(),
            study_id=study.section("study").identifier("id"),
            origin=log.text("origin"),
            log_vkey=_key(log.text("log_vkey"), "log.log_vkey", ALG_ED25519),
            coordinator_vkey=_key(log.text("coordinator_vkey"), "log.coordinator_vkey", ALG_ED25519),
            members=members,
            colluding_sites=rules.number("colluding_sites"),
            threshold=rules.number("threshold"),
            min_sites=rules.number("min_sites"),
            rounds=study.section("training").number("rounds"),
            suite=suite,
            weight_max=study.section("aggregation").number("weight_max"),
            initial_adapter=study.section("adapter").digest("initial_digest"),
            demands=_demands(study.values),
            wire_bits=_wire_bits(rules),
            graph=_graph(rules, len(members)),
            vote_every=_vote_every(rules),
            custody=_custody(rules, frozenset(members)) if suite == CKKS_SUITE else None,
            retention_years=_retention_years(study.values),
            initial_state=_initial_state(study),
            privacy=PrivacyPlan.of_charter(study),
            site_noise=SiteNoise.from_charter(study.values),
            validation=ValidationRules.of(study.values),
        )
        _check_numbers(terms)
        _check_distinct(terms)
        return terms


def threshold_of(n: int, colluding_sites: int) -> int:
    """Return T: two lists of T sites share an honest one, since 2T > n + c (decision 8)."""
    return (n + colluding_sites) // 2 + 1


def _check_numbers(terms: CharterTerms) -> None:
    n, c = terms.n, terms.colluding_sites
    expected = threshold_of(n, c)
    if terms.threshold != expected:  # G33: one threshold, computed, never chosen
        raise CharterError(f"{n} members and {c} colluding sites give threshold {expected}")
    if expected > n or expected - c < 2:  # G33: colluders subtract their own inputs; two honest must remain
        raise CharterError(f"{n} members cannot tolerate {c} colluding sites")
    if not 3 <= terms.min_sites <= expected:
        raise CharterError(f"min_sites lies between 3 and the threshold {expected}")
    if terms.rounds < 1 or terms.weight_max < 1:
        raise CharterError("rounds and weight_max are at least 1")


def _check_distinct(terms: CharterTerms) -> None:
    """G32: no key speaks for two parties or in two roles."""
    keys = [terms.log_vkey, terms.coordinator_vkey]
    for member in terms.members.values():
        keys += [member.event_vkey, member.witness_vkey]
    if len({VerifierKey.parse(key).public for key in keys}) != len(keys):
        raise CharterError("every key of a charter belongs to one party and one role", check="G32")


def _suite(rules: Fields) -> str:
    """Return the suite that mode and key agreement stand for (R6.7.3)."""
    mode = rules.text("mode")
    if mode == "masks":
        suite = MASKED_SUITES.get(rules.text("key_agreement"))
        if suite is None:
            raise CharterError("secure_aggregation.key_agreement is 'hybrid' or 'x25519'")
        return suite
    if mode not in SUITES:
        raise CharterError("secure_aggregation.mode is 'masks', 'ckks' or 'none'")
    return SUITES[mode]


def _wire_bits(rules: Fields) -> int:
    bits = rules.number("wire_bits") if "wire_bits" in rules.values else 32
    if bits not in (16, 24, 32):
        raise CharterError("secure_aggregation.wire_bits is 16, 24 or 32")
    return bits


def _graph(rules: Fields, n: int) -> GraphNumbers | None:
    """Read the graph, if the charter has one; none is the complete graph."""
    if "graph" not in rules.values:
        return None
    table = rules.section("graph")
    graph = GraphNumbers(*(table.number(name) for name in GraphNumbers._fields))
    k, t, s = graph
    if k % 2 or not 4 <= k <= n - 2 or not 2 <= t <= k or not 1 <= s <= k // 2:  # R6.15.2
        raise CharterError(f"secure_aggregation.graph is no graph of {n} members")
    return graph


def _custody(rules: Fields, members: frozenset[str]) -> KeyCustody:
    """Read who holds the CKKS key (R6.16.5)."""
    table = rules.section("ckks")
    kind, context = table.text("custody"), table.digest("context")
    if kind not in ("holder", "shared"):
        raise CharterError("secure_aggregation.ckks.custody is 'holder' or 'shared'")
    if kind == "shared":
        if table.values.get("holder"):
            raise CharterError("a shared CKKS key has no holder")
        return KeyCustody(None, context)
    holder = table.identifier("holder")
    if holder not in members:
        raise CharterError("the holder of the CKKS key is a member", check="G32")
    return KeyCustody(holder, context)


def _members(rows: list[Fields]) -> dict[str, MemberKeys]:
    members: dict[str, MemberKeys] = {}
    for row in rows:
        site = row.identifier("id")
        if site in members or site == COORDINATOR_ID:
            raise CharterError(f"member {site} occurs twice or has a reserved name", check="G32")
        members[site] = MemberKeys(
            _key(row.text("event_vkey"), f"{site}.event_vkey", ALG_ED25519),
            _key(row.text("witness_vkey"), f"{site}.witness_vkey", *WITNESS_ALGORITHMS.values()),
        )
    return members


def _key(vkey: str, where: str, *algorithms: int) -> str:
    try:
        key = VerifierKey.parse(vkey)
    except NoteError as error:
        raise CharterError(f"{where}: {error.sentence}", check="G32") from None
    if key.algorithm not in algorithms:
        raise CharterError(f"{where} is a key of another role", check="G32")
    return vkey


def _vote_every(rules: Fields) -> int:
    """Read how often the charter asks for a vote; it may leave the table out."""
    if rules.values.get("vote") is None:
        return 0
    every = rules.section("vote").number("every_rounds")
    if rules.text("mode") == "ckks":  # R4.7.9: its sessions carry no masks, so every vote could be read
        raise CharterError("a study with mode 'ckks' has no vote")
    if every < 1:
        raise CharterError("secure_aggregation.vote.every_rounds is at least 1")
    return every


def _initial_state(study: Fields) -> str | None:
    """Compute the digest that the server's optimiser starts from; it holds no value yet (R4.9.3)."""
    rules = study.section("aggregation")
    if "server" not in rules.values:
        return None
    optimiser = rules.section("server").text("optimiser")
    if optimiser not in OPTIMISERS:
        raise CharterError("aggregation.server.optimiser is 'momentum' or 'adam'")
    dimension = study.section("adapter").number("dimension")
    return hashlib.sha256(OPTIMISER_LABEL + f"{optimiser}/{dimension}\0".encode()).hexdigest()


def _retention_years(study: Mapping[str, Any]) -> int:
    """Read how long the log is kept; a charter without the number keeps it for six years."""
    audit = study.get("audit")
    years = audit.get("retention_years", DEFAULT_YEARS) if isinstance(audit, dict) else DEFAULT_YEARS
    if not isinstance(years, int) or isinstance(years, bool) or not 1 <= years <= MAX_YEARS:
        raise CharterError(f"audit.retention_years lies between 1 and {MAX_YEARS}")
    return years


def _demands(study: Mapping[str, Any]) -> frozenset[str]:
    """Name the checks a charter asks for that need more than the law."""
    demands: set[str] = set()
    if "privacy" in study:
        demands |= {"D1", "D2", "D3", "D4", "D5"}
    demands |= {"D6"} if study.get("site_noise") else set()
    audit = study.get("audit")
    if isinstance(audit, dict):
        demands |= {"C3", "E8"} if audit.get("quorum") else set()
        demands |= {"C7"} if audit.get("timestamps") else set()
        demands |= {"A3"} if audit.get("evidence") else set()
    return frozenset(demands)


def _load(charter: bytes) -> dict[str, Any]:
    try:
        values = json.loads(charter)
        canonical = rfc8785.dumps(values)
    except (ValueError, RecursionError):
        raise CharterError("the charter is JSON") from None
    if canonical != charter or not isinstance(values, dict):
        raise CharterError("the charter is a JSON object in canonical form")
    return values
