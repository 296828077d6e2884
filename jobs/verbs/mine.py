"""`facequarry mine`: one refresh by hand, or one that was made before, again; without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from datasets.run_dir import RunDir
from jobs.config import RunConfig, parse

if TYPE_CHECKING:
    from miner.replay import Replay

_STAGES = ("load", "open", "embed", "mine", "pack")
_WITHIN_MINE = ("prepare", "search", "select", "recall")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mine:
    """Mine a checkpoint of a run and publish the next generation, or mine one again and compare."""

    run: Path
    """The run's folder, such as runs/lfw."""
    step: int | None = None
    """Which checkpoint; None takes the newest."""
    replay: str | None = None
    """Generation to mine again, such as gen=3 or 3, and to compare byte for byte; its damaged
    files are restored. Nothing new is published."""


def run(flags: Sequence[str]) -> int:
    """Mine once; exit code 0 also where another refresh holds the run's lock."""
    args = parse(Mine, flags, prog="facequarry mine")
    if args.replay is not None and args.step is not None:
        raise ValueError("--replay takes the checkpoint that was mined; leave out --step")
    number = None if args.replay is None else _number(args.replay)
    from jobs.runs_on_disk import read_run

    where = RunDir(args.run.resolve())
    config = read_run(where)
    if number is None:
        return _mine(where, config, args.step)
    return _replay(where, config, number)


def _mine(where: RunDir, config: RunConfig, step: int | None) -> int:
    from datasets.events import EventLog
    from datasets.lock import LockHeld
    from jobs.plans import faces_of, refresh_plan
    from jobs.report import draw_generation
    from jobs.runs_on_disk import last_attempt
    from miner.approximate import check_index
    from miner.generation import make_generation
    from miner.journal import next_generation_number
    from miner.one_miner import mining
    from trainer.faces import RunFaces

    console = Console()
    steps = where.checkpoint_steps()
    if not steps:
        raise FileNotFoundError(f"{where.root} has no checkpoint yet; start it with facequarry run")
    step = steps[-1] if step is None else step
    if step not in steps:
        raise ValueError(f"no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    check_index(config.miner, config.trainer.embedding_dim)
    faces = RunFaces(faces_of(config, where))
    try:
        with mining(where) as lock:
            number = next_generation_number(where)
            log = EventLog(where.events, "miner", attempt=last_attempt(where))
            plan = refresh_plan(config)
            try:
                make_generation(where, faces, plan, step=step, number=number, log=log, lock=lock)
            except BaseException as error:  # Ctrl-C too: without an end it would look in hand
                reason = f"{type(error).__name__}: {error}"
                log.write("failed", reason=reason, checkpoint_step=step, generation=number)
                raise
    except LockHeld:
        console.print(f"nothing to do: {_at_work(where)}", soft_wrap=True, highlight=False)
        return 0
    console.print(generation_table(where, number))
    for name, path in draw_generation(where, faces, number, margin=config.miner.margin).items():
        console.print(f"{name:<10} {path}", soft_wrap=True, highlight=False)
    return 0


def _at_work(where: RunDir) -> str:
    """Say who mines the run, and when to try again."""
    from datasets.lock import is_held, read_holder

    holder = read_holder(where.miner_lock) or {}
    process = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    if is_held(where.driver_lock):
        return f"the run's own miner ({process}) is at work; try again when the run has ended"
    return f"another miner ({process}) is at work; try again when it has ended"


def _replay(where: RunDir, config: RunConfig, number: int) -> int:
    """Return 0 where the generation came out the same, else 1."""
    from jobs.plans import faces_of
    from miner.replay import replay_generation

    replay = replay_generation(where, faces_of(config, where), number, threads=config.miner.threads)
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
        raise ValueError(f"--replay is {word!r}, expected a generation such as gen=3 or 3")
    return int(digits)


def generation_table(where: RunDir, number: int) -> Table:
    """Return a generation's counts as a table."""
    from datasets.triplets import read_generation_manifest
    from miner.stats import why_no_rows

    manifest = read_generation_manifest(where.generation(number))
    stats, timing = manifest["stats"], manifest["timing"]
    table = Table(title=f"Generation {number}", show_header=False, title_justify="left")
    table.add_row("mined at step", str(manifest["mined_at_step"]))
    table.add_row("snapshot of the faces", str(manifest["snapshot"]))
    table.add_row("faces, identities", f"{stats['num_embedded']}, {stats['num_identities']}")
    table.add_row("engine", " ".join(filter(None, (stats["engine"], stats["index"]))))
    table.add_row("embedded on", manifest["config"]["device"])
    table.add_row("anchors, pairs", f"{stats['num_anchors']}, {stats['pairs']}")
    for name in ("semi_hard", "band_empty", "beyond_search", "suspect"):
        share = 100 * stats[name] / max(stats["pairs"], 1)
        table.add_row(f"{_words(name)} pairs", f"{stats[name]} ({share:.1f} %)")
    if stats["recall_vs_exact"] is not None:
        table.add_row("recall against exact", f"{stats['recall_vs_exact']:.3f}")
    if manifest["config"]["max_uses_as_negative"] is not None:
        table.add_row("rows over max uses as negative", f"{stats['over_max_uses']}, dropped")
    kinds = ", ".join(f"{_words(kind)} {n}" for kind, n in stats["rows_by_kind"].items())
    table.add_row("triplets", f"{manifest['rows']}: {kinds}")
    if not manifest["rows"]:
        table.add_row("", why_no_rows(stats))
    table.add_row("seconds", _seconds(timing, _STAGES))
    # Recall is measured where the engine may miss rows; an exact one has none to measure.
    within = [s for s in _WITHIN_MINE if s != "recall" or stats["recall_vs_exact"] is not None]
    table.add_row("of these, mine", _seconds(timing, within))
    return table


def _seconds(timing: Mapping[str, Any], stages: Sequence[str]) -> str:
    found = [(stage, timing[f"{stage}_s"]) for stage in stages if f"{stage}_s" in timing]
    return ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found)


def _words(name: str) -> str:
    return name.replace("semi_hard", "semi-hard").replace("_", " ")
