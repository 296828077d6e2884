"""Pieces of a gallery: rows of whole identities, cut out and put together again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facequarry.miner.kernels.layout import Rows
from facequarry.miner.spread.spread import Span


def cut_rows(rows: Rows, span: Span) -> Rows:
    """Return rows of whole identities, counted from the span's begin."""
    part = slice(*span)
    return Rows(
        x=rows.x[part],
        ids=rows.ids[part],
        first=rows.first[part] - span.begin,
        last=rows.last[part] - span.begin,
        norms2=rows.norms2[part],
    )


def join_rows(pieces: Sequence[Rows]) -> Rows:
    """Return rows of different identities one after another."""
    sizes = [piece.ids.size for piece in pieces]
    begins = np.cumsum([0, *sizes[:-1]])
    return Rows(
        x=np.concatenate([piece.x for piece in pieces]),
        ids=np.concatenate([piece.ids for piece in pieces]),
        first=np.concatenate([p.first + b for p, b in zip(pieces, begins, strict=True)]),
        last=np.concatenate([p.last + b for p, b in zip(pieces, begins, strict=True)]),
        norms2=np.concatenate([piece.norms2 for piece in pieces]),
    )
