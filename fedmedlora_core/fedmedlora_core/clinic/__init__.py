"""Synthetic hospitals: notes with gold entities and relations that nobody wrote and no patient stands behind.

Each hospital has a style of its own (headings, abbreviations, words, sentence templates, spelling, what its
annotators looked for) and shares a part of its words and templates with all others, so that a model trained
at one hospital does badly at another and a model trained by all does well everywhere.

Rules: everything follows from the seed; names of problems, tests, treatments and drugs are open-ended (put
together from parts), so that a test set holds names that training never showed; every span begins after a
blank or a bracket and ends before a blank.

    notes = generate(4, seed=7)          # {"cardiology": [Note, ...], "surgery": [...], ...}

What this package leaves out: any claim about real notes. Scores on this text compare systems, nothing more.
"""

from fedmedlora_core.clinic.canaries import CanaryPatient, canaries_of, canaries_to_json
from fedmedlora_core.clinic.hospital import HOSPITAL_IDS, Hospital, load_hospital
from fedmedlora_core.clinic.writer import generate, generate_hospital

__all__ = [
    "HOSPITAL_IDS",
    "CanaryPatient",
    "Hospital",
    "canaries_of",
    "canaries_to_json",
    "generate",
    "generate_hospital",
    "load_hospital",
]
