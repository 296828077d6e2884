"""The words and colours of a run: stages of a refresh, and the kinds that mining tells apart.

The event log, the miner's tables, the printed ones, pictures and pages all take them from here, so
that one thing has one name, one place in the order and one colour wherever a person meets it.

    from facequarry.datasets.runs.vocabulary import KINDS, names

    names(KINDS)  # ("semi_hard", "hard", "easy", "random")
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's colours, told apart with any kind of colour vision; grey carries no meaning.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
RED = "#b3261e"
"""Of failures."""
INK, GREY, PALE = "#333333", "#8a8a8a", "#e3e3e3"


@dataclass(frozen=True, slots=True)
class Term:
    """One stage or kind."""

    name: str
    """In events, manifests and columns."""
    label: str
    """In tables, pictures and on pages."""
    color: str
    """`#rrggbb`, wherever it is drawn."""
    meaning: str
    """Goes on from "to ..." for a stage, from "pairs ..." or "triplets ..." for a kind."""


def names(terms: Iterable[Term]) -> tuple[str, ...]:
    """Return what terms are called on disk, in their order."""
    return tuple(term.name for term in terms)


def label_of(name: str) -> str:
    """Return how people read a kind of triplets, or a fallback rung that serves it.

    Raises:
        KeyError: there is no such kind.
    """
    return {kind.name: kind.label for kind in KINDS}[name]


# Stages: the seconds of one are `<name>_s` in events and in a manifest's timing. Those that stay
# small share a grey: only that they stay small matters.
READ = Term("read", "read", GREY, "read the arrays")
LOAD = Term("load", "load", GREY, "load the checkpoint")
OPEN = Term("open", "open", GREY, "open the faces, a snapshot that is new to the miner included")
CHOOSE = Term(
    "choose",
    "choose (probe)",
    GREEN,
    "choose what is embedded, faces embedded for that (the probe) included",
)
EMBED = Term("embed", "embed", BLUE, "embed the faces")
MINE = Term("mine", "mine", ORANGE, "prepare, search, select and measure recall")
PREPARE = Term("prepare", "prepare", ORANGE, "check the rows and open the engine")
SEARCH = Term("search", "search", ORANGE, "look for negatives")
SELECT = Term("select", "select", ORANGE, "choose pairs, and triplets of what was found")
RECALL = Term("recall", "recall", ORANGE, "measure what an approximate engine finds")
PACK = Term("pack", "pack", GREY, "put the rows in lease order")
PUBLISH = Term("publish", "publish", PURPLE, "write and publish the generation")
COMPARE = Term("compare", "compare", GREY, "compare a replay with what was published")

REFRESH_STAGES = (LOAD, OPEN, CHOOSE, EMBED, MINE, PACK, PUBLISH)
"""What the seconds of a refresh are split into, in order, as its event has them."""
MINE_STAGES = (PREPARE, SEARCH, SELECT, RECALL)
"""What those of `MINE` are split into, in a manifest."""
STAGES = (READ, *REFRESH_STAGES, COMPARE)
"""Stages of a refresh, of mining arrays (which are read) and of a replay (which is compared)."""

SEMI_HARD = Term("semi_hard", "semi-hard", GREEN, "with a negative in their band")
HARD = Term("hard", "hard", ORANGE, "with a negative no farther than their positive")
EASY = Term("easy", "easy", BLUE, "with a negative beyond their band")
RANDOM = Term("random", "random", GREY, "with the negative that the fallback rung `random` served")
KINDS = (SEMI_HARD, HARD, EASY, RANDOM)
"""What a triplet's negative is to its pair; the order is that of the dictionary in the tables."""
KINDS_BY_DISTANCE = (HARD, SEMI_HARD, EASY)
"""What a negative can be by distance, the nearest first."""

BAND_EMPTY = Term("band_empty", "band empty", GREY, "proven to have no negative in their band")
BEYOND_SEARCH = Term(
    "beyond_search", "beyond search", PURPLE, "whose band lies beyond what was searched"
)
SUSPECT = Term("suspect", "suspect", ORANGE, "over positive_cap, kept out of training")
OUTCOMES = (SEMI_HARD, BAND_EMPTY, BEYOND_SEARCH, SUSPECT)
"""What became of an anchor-positive pair; together they are all pairs."""

OVER_POSITIVE_CAP = Term(
    "over_positive_cap", "over positive_cap", ORANGE, "of one identity, farther apart than the cap"
)
UNDER_DUPLICATE_FLOOR = Term(
    "under_duplicate_floor",
    "under duplicate_floor",
    PURPLE,
    "of two identities, nearer than the floor",
)
REASONS = (OVER_POSITIVE_CAP, UNDER_DUPLICATE_FLOOR)
"""Why a pair is a suspect."""

WHEN_CONSUMED = (
    Term("now_hard", "now hard", HARD.color, "hard"),
    Term("in_band", "still semi-hard", SEMI_HARD.color, "still semi-hard"),
    Term("now_easy", "now easy", EASY.color, "easy"),
)
"""What a triplet is to the network that trains on it; in its events `<name>_share`."""
