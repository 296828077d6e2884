"""The closing table of `facequarry evaluate`."""

from __future__ import annotations

from rich.table import Table

from facequarry.trainer.evaluation.result import Evaluation


def evaluation_table(run: str, result: Evaluation, *, caveat: str | None = None) -> Table:
    """Return all figures of an evaluation, and what they leave out.

    Args:
        run: the run's name.
        result: its checkpoint's evaluation.
        caveat: what the figures may be worth less for, if anything.
    """
    figures, found = result.verification, result.retrieval
    table = Table(title=_title(run, result), show_header=False, title_justify="left")
    table.add_row("identities, faces", f"{result.num_identities}, {result.num_faces}")
    table.add_row("same, different pairs", f"{figures.num_same}, {figures.num_different}")
    if result.pairs:
        table.add_row("pairs in the file", str(result.pairs.num_pairs))
        table.add_row("left out of all figures", _counts(result.pairs.left_out))
        if result.pairs.num_tuning:
            table.add_row("with people tuned on", f"{result.pairs.num_tuning}, counted")
    if caveat:
        table.add_row("beware", caveat)
    table.add_section()
    table.add_row("accuracy", _accuracy(result))
    table.add_row("AUC", f"{figures.auc:.4f}")
    table.add_row("EER", f"{figures.eer:.4f}")
    for far, tar in figures.tar_at_far.items():
        table.add_row(f"TAR at FAR {far}", "n/a (too few pairs)" if tar is None else f"{tar:.4f}")
    table.add_row("precision@1, MAP@R", f"{found.precision_at_1:.4f}, {found.map_at_r:.4f}")
    table.add_row("threshold", f"d2 {figures.threshold_d2:.3f}, the best on all pairs")
    table.add_row(
        "confusion at it",
        f"same: {figures.true_accepts} accepted, {figures.false_rejects} rejected; "
        f"different: {figures.true_rejects} rejected, {figures.false_accepts} accepted",
    )
    return table


def _title(run: str, result: Evaluation) -> str:
    what = result.pairs.file if result.pairs else f"{result.part.replace('_', '-')} identities"
    faces = f", faces of {result.faces}" if result.faces and result.pairs else ""
    return f"{run}, step {result.step}, {what}{faces}"


def _accuracy(result: Evaluation) -> str:
    figures = result.verification
    if figures.accuracy is None or figures.accuracy_std is None:
        if result.pairs and result.pairs.has_folds:
            return (
                "n/a (fewer than two of the file's folds can be judged: both kinds in and outside)"
            )
        return "n/a (too few people for two folds that share none)"
    folds, lost = f"{figures.num_folds} folds that share no person", "join two folds"
    if result.pairs and result.pairs.has_folds:
        people = result.pairs.num_in_several_folds or "no"
        folds = f"{figures.num_folds} folds (the file's; {people} people are in several)"
        lost = "are in no whole fold"
    text = f"{figures.accuracy:.3f} ± {figures.accuracy_std:.3f}, {folds}"
    left_out = [
        f"{count:,} of {total:,} {kind} pairs"
        for kind, count, total in (
            ("same", figures.num_left_out_same, figures.num_same),
            ("different", figures.num_left_out_different, figures.num_different),
        )
        if count
    ]
    return text + (f"; {' and '.join(left_out)} {lost}, left out of this row" if left_out else "")


def _counts(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"
