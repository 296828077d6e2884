"""How mining refreshes itself and how the queue hands rows over. Light: no heavy import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from facequarry.datasets.disk.errors import BadInput

Snapshots = Literal["newest", "pinned"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefreshConfig:
    """Refresh after each published checkpoint, and what the trainer sees of it."""

    mode: Literal["async", "blocking"] = "async"
    """`async`: training goes on with the old generation while a refresh runs. `blocking`: the
    steps after a checkpoint wait for the generation mined from it."""
    snapshots: Snapshots = "newest"
    """`newest`: each refresh mines the newest snapshot of the faces, so that what `ingest` adds is
    trained on without a restart. `pinned`: the snapshot that the run started with, to the end."""
    augmented: bool = True
    """Mine the faces changed as training will change them (`trainer.flip`, `trainer.jitter_px`),
    each in one way for a whole generation. False: mine them as they are; training then changes them
    anew at each step, by which about half of the rows leave their band."""
    on_empty: Literal["wait", "random"] = "wait"
    """Before the first generation: wait for it, or train on random triplets."""
    carry_over: float = 0.0
    """Share of a batch that comes from the generation before, 0 to 1: softens a refresh."""
    max_staleness_steps: int | None = None
    """Most steps that the main rows of a step may lag behind it; None sets no limit. At least
    `trainer.checkpoint_every + trainer.prefetch`."""
    on_stale: Literal["continue", "wait"] = "continue"
    """At that limit: go on with old rows, or publish a checkpoint and wait for its generation."""
    keep_generations: int | None = None
    """Newest generations that are kept whatever happens. Older ones are deleted once no kept
    checkpoint but step 0 could train on them again; None keeps all."""
    rows_per_step: float = 2.0
    """Triplets mined per triplet that training consumes between two checkpoints: anchors are
    budgeted by it where `miner.anchors` is not set. 2 covers a refresh as long as the interval."""
    budget: Literal["none", "steps"] = "none"
    """`none`: each refresh embeds every face. `steps`: it embeds as many as let it end within
    `trainer.checkpoint_every` steps, by what earlier refreshes took: a part of the identities, who
    look alike together, another one each time."""
    budget_share: float = 0.8
    """Share of the seconds of those steps that a refresh may be forecast to take; the rest is for
    forecasts that miss. With `refresh.budget = steps`."""
    first_faces: int | None = None
    """Faces that refreshes embed while there is nothing to forecast from, which is the first one;
    None embeds all, which takes as long as it takes. With `refresh.budget = steps`."""
    max_failures: int = 5
    """Failed refreshes in a row, before the first generation, after which the run ends with the
    reason. With a generation to train on, a failed refresh is tried again for ever."""
    lease_timeout_s: float = 600.0
    """Longest a trainer waits for the rows of one step, seconds."""

    def __post_init__(self) -> None:
        if self.mode == "blocking" and self.on_empty == "random":
            raise BadInput(
                "refresh.mode = blocking waits for each generation, so refresh.on_empty = random "
                "would never serve; leave one of them out"
            )
        if self.mode == "blocking" and self.budget == "steps":
            raise BadInput(
                "refresh.mode = blocking stops training while a refresh runs, so none takes any "
                "steps and refresh.budget = steps would only mine less; leave one of them out"
            )
        if not 0 < self.budget_share <= 1:
            raise BadInput(
                f"refresh.budget_share is {self.budget_share}, it must be above 0 and at most 1"
            )
        if self.first_faces is not None and (self.budget == "none" or self.first_faces < 2):
            raise BadInput(
                f"refresh.first_faces is {self.first_faces}: it must be 2 or more, and it needs "
                "refresh.budget = steps"
            )
        if not 0 <= self.carry_over <= 1:
            raise BadInput(f"refresh.carry_over is {self.carry_over}, it must lie in 0 to 1")
        for name in ("max_staleness_steps", "keep_generations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"refresh.{name} is {value}, it must be 1 or more, or None")
        if self.on_stale == "wait" and self.max_staleness_steps is None:
            raise BadInput(
                "refresh.on_stale = wait needs a limit to wait at; set refresh.max_staleness_steps"
            )
        if not self.rows_per_step > 0:
            raise BadInput(f"refresh.rows_per_step is {self.rows_per_step}, it must be positive")
        if self.max_failures < 1:
            raise BadInput(f"refresh.max_failures is {self.max_failures}, it must be 1 or more")
        if not self.lease_timeout_s > 0:
            raise BadInput(
                f"refresh.lease_timeout_s is {self.lease_timeout_s}, it must be positive"
            )
