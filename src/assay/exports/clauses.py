"""What texts about robustness ask, which numbers of a run answer a part of it, and what they leave open.

A text is named with its release or date. Sentences are in our words; whoever assesses reads the text itself.
Identifiers of ATLAS were read in its release 5.6.1 (https://github.com/mitre-atlas/atlas-data, tag v5.6.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

CLEAN, ROBUST, VERDICTS, CERTIFIED, CORRUPTED, BLACK_BOX, WHITE_BOX, TRANSFERRED, PATCH, RECORDS = (
    "clean", "robust", "verdicts", "certified", "corrupted", "black box", "white box", "transferred", "patch",
    "records",
)  # fmt: skip
"""What a run may hold that answers something."""

AI_ACT = "Regulation (EU) 2024/1689 (AI Act)"
AI_ACT_DATE = "13 June 2024, Official Journal of 12 July 2024; later amendments are not mapped here"
TR_24029_1, TR_24029_1_DATE = "ISO/IEC TR 24029-1:2021", "first edition, March 2021"
ISO_24029_2, ISO_24029_2_DATE = "ISO/IEC 24029-2:2023", "first edition, August 2023"
RMF, RMF_DATE = "NIST AI RMF 1.0 (AI 100-1)", "January 2023"
AML, AML_DATE = "NIST AI 100-2 E2025", "24 March 2025"
ATLAS, ATLAS_DATE = "MITRE ATLAS", "release 5.6.1, 5 May 2026"


@dataclasses.dataclass(frozen=True)
class Clause:
    """A clause of a text of some date: what it is about, what a run answers by what it holds, what stays open."""

    text: str
    date: str
    clause: str
    about: str
    answers: Mapping[str, str]
    open: str


_ROBUST = "results: robust_accuracy with its interval, per attack and budget"
_VERDICTS = "verdicts: how far each robust number can be trusted, and what an escalation left of it"
_CERTIFIED = "brackets: certified_accuracy, proved from below, beside what attacks left"
_CORRUPTED = "corruptions: accuracy on corrupted images, an average case"
_CLEAN = "results: clean_accuracy with its interval"
_RECORDS = (
    "the record of every image in the run directory, the digests of weights, data and cells, the study and command"
)

CLAUSES = (
    Clause(
        AI_ACT, AI_ACT_DATE, "Article 15(1)",
        "An appropriate level of accuracy, robustness and cybersecurity, kept throughout the life cycle.",
        {CLEAN: _CLEAN, ROBUST: _ROBUST, CERTIFIED: _CERTIFIED, CORRUPTED: _CORRUPTED},
        "Whether a level is appropriate for the intended purpose; everything after this test.",
    ),
    Clause(
        AI_ACT, AI_ACT_DATE, "Article 15(3)",
        "Levels and metrics of accuracy are declared in the instructions of use.",
        {CLEAN: _CLEAN},
        "The declaration itself; metrics other than the share of right answers.",
    ),
    Clause(
        AI_ACT, AI_ACT_DATE, "Article 15(4)",
        "Resilience to errors, faults and inconsistencies in the system or its environment.",
        {CORRUPTED: _CORRUPTED},
        "Redundancy and fail-safe plans; feedback loops of systems that go on learning; faults outside of the images.",
    ),
    Clause(
        AI_ACT, AI_ACT_DATE, "Article 15(5)",
        "Resilience to third parties that exploit vulnerabilities; of these, adversarial examples or model evasion.",
        {ROBUST: _ROBUST, VERDICTS: _VERDICTS, CERTIFIED: _CERTIFIED},
        "Data poisoning, model poisoning, confidentiality attacks and flaws of the model; measures to detect, respond "
        "to and control attacks; attacks of other kinds and sizes than those named here.",
    ),
    Clause(
        AI_ACT, AI_ACT_DATE, "Annex IV, point 2(g)",
        "Validation and testing procedures, their data and metrics, and test logs and reports, dated and signed.",
        {CLEAN: _CLEAN, ROBUST: _ROBUST, RECORDS: _RECORDS},
        "Date and signature of the responsible persons; data of training and validation; discriminatory impacts.",
    ),
    Clause(
        TR_24029_1, TR_24029_1_DATE, "Statistical methods (clause 5)",
        "Performance measured on data, and how it is affected.",
        {CLEAN: _CLEAN, ROBUST: _ROBUST, CORRUPTED: _CORRUPTED},
        "Whether the data stand for the domain of use.",
    ),
    Clause(
        TR_24029_1, TR_24029_1_DATE, "Empirical methods",
        "Experiment, observation and expert judgement.",
        {VERDICTS: _VERDICTS, RECORDS: _RECORDS},
        "Field trials, and a panel of experts who judge them.",
    ),
    Clause(
        ISO_24029_2, ISO_24029_2_DATE, "5.3 Stability",
        "A formal method proves that answers stay the same within a domain around an input.",
        {CERTIFIED: _CERTIFIED},
        "Domains other than the balls of the threats named here; sensitivity, relevance and reachability (5.4 to 5.6).",
    ),
    Clause(
        RMF, RMF_DATE, "MEASURE 2.7",
        "Security and resilience of the system, as the MAP function identified them, are evaluated and documented.",
        {ROBUST: _ROBUST, VERDICTS: _VERDICTS, CERTIFIED: _CERTIFIED, RECORDS: _RECORDS},
        "The risks that MAP identified; security of anything but the answers of this model.",
    ),
    Clause(
        AML, AML_DATE, "NISTAML.022 Evasion",
        "Inputs are changed after training so that the model answers as the attacker wants.",
        {ROBUST: _ROBUST, VERDICTS: _VERDICTS, CERTIFIED: _CERTIFIED},
        "Changes that no threat of this run describes; mitigations.",
    ),
    Clause(
        AML, AML_DATE, "NISTAML.025 Black-box Evasion",
        "Evasion by an attacker who can only ask the model.",
        {BLACK_BOX: f"{_ROBUST}, and the queries they took"},
        "More queries than were asked; other strategies of asking.",
    ),
    Clause(
        ATLAS, ATLAS_DATE, "AML.T0043 Craft Adversarial Data",
        "Inputs are changed so that the model fails.", {ROBUST: _ROBUST, CERTIFIED: _CERTIFIED},
        "Backdoor triggers (AML.T0043.004); changes that no threat of this run describes.",
    ),
    Clause(
        ATLAS, ATLAS_DATE, "AML.T0043.000 White-Box Optimization",
        "They are found with full access to the model.", {WHITE_BOX: _ROBUST},
        "Optimisation that none of these attacks does; the verdicts say how much stronger ones were tried.",
    ),
    Clause(
        ATLAS, ATLAS_DATE, "AML.T0043.001 Black-Box Optimization",
        "They are found by asking the model alone.", {BLACK_BOX: f"{_ROBUST}, and the queries they took"},
        "More queries than were asked.",
    ),
    Clause(
        ATLAS, ATLAS_DATE, "AML.T0043.002 Black-Box Transfer",
        "They are found on another model.", {TRANSFERRED: f"{_ROBUST}, of attacks with a surrogate"},
        "Other surrogates.",
    ),
    Clause(
        ATLAS, ATLAS_DATE, "AML.T0041 Physical Environment Access",
        "The attack is made in the physical world, such as by a printed patch.",
        {PATCH: f"{_ROBUST}, of patches in digital images"},
        "Every physical effect: printing, light, distance, cameras.",
    ),
    Clause(
        ATLAS, ATLAS_DATE, "AML.T0015 Evade AI Model",
        "Such inputs keep the model from doing its work.", {ROBUST: _ROBUST, VERDICTS: _VERDICTS},
        "What follows for the system that the model is a part of.",
    ),
)  # fmt: skip
