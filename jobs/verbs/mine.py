"""`facequarry mine`: one refresh by hand, or one made before, again; or arrays from files.

facequarry mine --run runs/lfw
facequarry mine --embeddings E.npy --labels L.npy --out mined
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig, parse
from facequarry.miner.config import MinerConfig

if TYPE_CHECKING:
    from facequarry.miner.refresh.executors import Executors
    from facequarry.miner.refresh.replay import Replay


@dataclass(frozen=True, kw_only=True, slots=True)
class Mine:
    """Mine a checkpoint of a run and publish the next generation, or mine one again and compare.

    Or mine embeddings and labels from files into a folder, without a run.
    """

    run: Path | None = None
    """The run's folder, such as runs/lfw."""
    step: int | None = None
    """Which checkpoint; None takes the newest."""
    replay: str | None = None
    """Generation to mine again, such as gen=3 or 3, and to compare byte for byte; its damaged
    files are restored. Nothing new is published."""
    actors: int = 1
    """Ray actors that share the work, and the CPUs, embedding first; 1 does without Ray. Never
    changes results."""
    augmented: bool | None = None
    """Change the faces as training does before they are mined; None as the run says. False finds
    photos that are there twice: mirrored, one of them is another picture to a young network."""
    embeddings: tuple[Path, ...] = ()
    """In place of --run: .npy files of shape (N, D), or Parquet files or folders of them with a
    column of lists; several are put one after the other. Rows of unit length, float16 to 64."""
    labels: tuple[Path, ...] = ()
    """One integer or string for each embedding: .npy, a column of Parquet or CSV, or text with one
    label a line."""
    out: Path | None = None
    """Folder for triplets, suspects, manifest and picture; it must not exist, or be empty."""
    column: str | None = None
    """Parquet column of the embeddings; None takes the only column of lists of floats."""
    label_column: str | None = None
    """Column of the labels in Parquet or CSV; None takes the only one of integers or strings."""
    normalise: bool = False
    """Bring the embeddings to unit length first."""
    seed: int | None = None
    """Of random anchors, positives and negatives of --embeddings; None is 0."""
    miner: MinerConfig = field(default_factory=MinerConfig)
    """How to mine. With --run these flags override the run's config.json, for this generation."""

    def __post_init__(self) -> None:
        if bool(self.embeddings) == (self.run is not None):
            raise BadInput("name a run with --run, or files with --embeddings, --labels and --out")
        if self.run is not None:
            given = self._given(_OF_ARRAYS)
            if given:
                raise BadInput(f"{', '.join(given)} goes with --embeddings, not with --run")
        else:
            given = self._given(_OF_RUNS)
            if given:
                raise BadInput(f"{', '.join(given)} goes with --run, not with --embeddings")
            missing = [f"--{name}" for name in ("labels", "out") if not getattr(self, name)]
            if missing:
                raise BadInput(f"{' and '.join(missing)} missing beside --embeddings")

    def _given(self, names: tuple[str, ...]) -> list[str]:
        """Return the flags among these that are not at their default."""
        defaults = {option.name: option.default for option in fields(self)}
        return [
            f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != defaults[name]
        ]


_OF_RUNS = ("step", "replay", "augmented", "actors")
_OF_ARRAYS = ("labels", "out", "column", "label_column", "normalise", "seed")


def run(flags: Sequence[str]) -> int:
    """Mine once; exit code 0 also where another refresh holds the run's lock."""
    args = parse(Mine, flags, prog="facequarry mine")
    if args.run is None:
        return _mine_arrays(args)
    if args.replay is not None and args.step is not None:
        raise BadInput("--replay takes the checkpoint that was mined; leave out --step")
    if args.actors < 1:
        raise BadInput(f"--actors is {args.actors}, it must be 1 or more")
    number = None if args.replay is None else _number(args.replay)
    from facequarry.jobs.state.runs_on_disk import read_run

    where = RunDir(args.run.resolve())
    config = read_run(where)
    asked = _with_flags(config, parse(Mine, flags, default=replace(args, miner=config.miner)))
    if number is not None and asked != replace(
        config, miner=replace(config.miner, threads=asked.miner.threads)
    ):
        raise BadInput("--replay mines as the manifest says; leave out --miner.* and --augmented")
    logging.getLogger("facequarry.miner.core.pace").setLevel(
        logging.INFO
    )  # progress of stages that take long
    with _executors(where, asked, args.actors) as executors:
        if number is None:
            return _mine(where, asked, args.step, executors)
        return _replay(where, asked, number, executors)


def _with_flags(config: RunConfig, args: Mine) -> RunConfig:
    """Return the run's configuration with what the flags say for one generation."""
    if args.miner.margin != config.miner.margin:
        raise BadInput(
            f"--miner.margin {args.miner.margin} is not the run's {config.miner.margin}, which its "
            "loss has too; start a run with another margin"
        )
    refresh = config.refresh
    if args.augmented is not None:
        refresh = replace(refresh, augmented=args.augmented)
    return replace(config, miner=args.miner, refresh=refresh)


def _mine_arrays(args: Mine) -> int:
    from facequarry.jobs.arrays.mine_arrays import PICTURE, Arrays, mine_arrays
    from facequarry.jobs.reports.mining_table import as_table, mining_rows

    assert args.out is not None
    manifest = mine_arrays(
        Arrays(
            embeddings=args.embeddings,
            labels=args.labels,
            out=args.out,
            column=args.column,
            label_column=args.label_column,
            normalise=args.normalise,
            seed=args.seed or 0,
            config=args.miner,
        )
    )
    console = Console()
    rows = mining_rows(manifest, str, item="embedding", labels="labels")
    console.print(as_table(str(args.out), rows))
    files = [part["file"] for part in manifest["parts"]]
    shown = {
        "triplets": files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}",
        "suspects": "suspects.parquet",
        "mining": PICTURE,
    }
    for name, file in shown.items():
        console.print(f"{name:<10} {args.out / file}", soft_wrap=True, highlight=False)
    return 0


@contextlib.contextmanager
def _executors(where: RunDir, config: RunConfig, actors: int) -> Iterator[Executors]:
    """Yield who embeds and searches: this process, or actors that share the CPUs equally."""
    from facequarry.jobs.state.plans import faces_of, refresh_executors

    cluster = replace(config.cluster, miner_actors=actors, embed_actors=actors)
    if actors == 1:
        yield refresh_executors(cluster, faces_of(config, where))
        return
    import ray

    from facequarry.jobs.cluster import ray_cluster

    with ray_cluster(config.cluster):
        cpus = ray.cluster_resources()["CPU"] / actors
        cluster = replace(cluster, miner_cpus=math.floor(cpus * 100) / 100)
        yield refresh_executors(cluster, faces_of(config, where))


def _mine(where: RunDir, config: RunConfig, step: int | None, executors: Executors) -> int:
    from facequarry.datasets.disk.lock import LockHeld
    from facequarry.datasets.generations.triplets import read_generation_manifest
    from facequarry.datasets.runs.events import EventLog
    from facequarry.jobs.pictures.generation_pictures import draw_generation, name_of
    from facequarry.jobs.reports.mining_table import generation_table
    from facequarry.jobs.state.plans import faces_of, refresh_plan
    from facequarry.jobs.state.runs_on_disk import last_attempt
    from facequarry.miner.engines.approximate import check_index
    from facequarry.miner.queue.journal import next_generation_number
    from facequarry.miner.refresh.generation import make_generation
    from facequarry.miner.refresh.one_miner import mining
    from facequarry.trainer.batch.run_faces import RunFaces

    console = Console()
    steps = where.checkpoint_steps()
    if not steps:
        raise NotFound(f"{where.root} has no checkpoint yet; start it with facequarry run")
    step = steps[-1] if step is None else step
    if step not in steps:
        raise BadInput(f"no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    check_index(config.miner, config.trainer.embedding_dim)
    faces = RunFaces(faces_of(config, where))
    try:
        with mining(where) as lock:
            number = next_generation_number(where)
            log = EventLog(where.events, "miner", attempt=last_attempt(where))
            plan = refresh_plan(config)
            try:
                make_generation(
                    where,
                    faces,
                    plan,
                    step=step,
                    number=number,
                    log=log,
                    lock=lock,
                    executors=executors,
                )
            except BaseException as error:  # Ctrl-C too: without an end it would look in hand
                reason = f"{type(error).__name__}: {error}"
                log.write("failed", reason=reason, checkpoint_step=step, generation=number)
                raise
    except LockHeld:
        console.print(f"nothing to do: {_at_work(where)}", soft_wrap=True, highlight=False)
        return 0
    manifest = read_generation_manifest(where.generation(number))
    store = faces.reach(manifest["snapshot"])
    console.print(generation_table(manifest, name_of(store)))
    for name, path in draw_generation(where, faces, number).items():
        console.print(f"{name:<10} {path}", soft_wrap=True, highlight=False)
    return 0


def _at_work(where: RunDir) -> str:
    """Say who mines the run, and when to try again."""
    from facequarry.datasets.disk.lock import is_held, read_holder

    holder = read_holder(where.miner_lock) or {}
    process = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    if is_held(where.driver_lock):
        return f"the run's own miner ({process}) is at work; try again when the run has ended"
    return f"another miner ({process}) is at work; try again when it has ended"


def _replay(where: RunDir, config: RunConfig, number: int, executors: Executors) -> int:
    """Return 0 where the generation came out the same, else 1."""
    from facequarry.jobs.state.plans import faces_of
    from facequarry.miner.refresh.replay import replay_generation

    replay = replay_generation(
        where, faces_of(config, where), number, threads=config.miner.threads, executors=executors
    )
    for line in replay_lines(replay):
        Console().print(line, soft_wrap=True, highlight=False)
    return 0 if replay.difference is None else 1


def replay_lines(replay: Replay) -> list[str]:
    """Say what came of a replay."""
    name = f"generation {replay.number}"
    counts = f"{replay.rows} triplets in {replay.parts} part(s), {replay.suspects} suspects"
    if replay.difference is None:
        lines = [f"{name} is the same byte for byte: {counts}, {replay.seconds:.1f} s"]
        if replay.restored:
            lines.append(
                f"restored {', '.join(replay.restored)}: missing or damaged before, now the bytes "
                "that the manifest names"
            )
        return lines
    lines = [f"{name} came out differently: {replay.difference}"]
    if replay.damaged:
        lines.append(f"not restored: {', '.join(replay.damaged)}, missing or damaged")
    if replay.made_otherwise:
        lines.append(f"made with {', '.join(replay.made_otherwise)}")
    return [*lines, f"the replay lies in {replay.kept}"]


def _number(word: str) -> int:
    digits = word.removeprefix("gen=")
    if not (digits.isascii() and digits.isdigit()):
        raise BadInput(f"--replay is {word!r}, expected a generation such as gen=3 or 3")
    return int(digits)
