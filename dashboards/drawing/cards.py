"""Pieces of HTML that Streamlit has no widget for: the heading, and a mined triplet.

Names of identities and photos come from folders that anyone may have made: they are escaped.
"""

from __future__ import annotations

import base64
import html

from facequarry.dashboards.drawing.look import clear
from facequarry.dashboards.facts.browse import Face, Triplet
from facequarry.dashboards.facts.read import RunFacts
from facequarry.datasets.runs.record import State
from facequarry.datasets.runs.vocabulary import (
    BLUE,
    GREEN,
    GREY,
    INK,
    KINDS_BY_DISTANCE,
    ORANGE,
    PALE,
    RED,
)

_IN_BAND = clear(GREEN, 0.5)

STYLE = f"""<style>
.block-container {{ max-width: 1500px; padding-top: 2.2rem; padding-bottom: 3rem; }}
.fq-title {{ font-size: 1.75rem; font-weight: 700; color: {INK}; line-height: 1.2; }}
.fq-title small {{ font-size: .95rem; font-weight: 400; color: {GREY}; margin-left: .6rem; }}
.fq-state {{ display: inline-block; padding: .1rem .65rem; border-radius: 1rem; color: white;
  font-size: .8rem; font-weight: 600; margin-right: .5rem; }}
.fq-triplet {{ border: 1px solid {PALE}; border-radius: .5rem; padding: .6rem .7rem .3rem;
  color: {INK}; }}
.fq-faces {{ display: grid; grid-template-columns: repeat(3, minmax(0, 1fr));
  gap: .5rem; }}
.fq-face {{ min-width: 0; }}
.fq-face img {{ width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: .3rem;
  border: 3px solid var(--role); display: block; }}
.fq-face div {{ font-size: .72rem; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; line-height: 1.35; }}
.fq-face .fq-role {{ color: var(--role); font-weight: 600; }}
.fq-face .fq-source {{ color: {GREY}; }}
.fq-band {{ position: relative; height: 6px; margin: .55rem 3px .2rem; border-radius: 3px;
  background: linear-gradient(90deg, {PALE} 25%, {_IN_BAND} 25%, {_IN_BAND} 75%, {PALE} 75%); }}
.fq-band i {{ position: absolute; top: -3px; width: 12px; height: 12px; margin-left: -6px;
  border-radius: 50%; background: {ORANGE}; border: 2px solid white; }}
.fq-words {{ display: grid; grid-template-columns: 1fr 2fr 1fr; text-align: center;
  font-size: .68rem; }}
.fq-place {{ text-align: center; padding-bottom: .55rem; white-space: nowrap; color: {INK}; }}
[data-testid="stMetricValue"] {{ font-size: 1.5rem; }}
[data-testid="stMetricDelta"] {{ font-size: .8rem; background: none; padding: 0; }}
[data-testid="stMarkdownContainer"] td, [data-testid="stMarkdownContainer"] th {{
  padding: .18rem .5rem !important; font-size: .85rem; }}
[data-testid="stMarkdownContainer"] table {{ width: 100%; }}
</style>"""

_STATES: dict[State, tuple[str, str]] = {
    "starting": ("starting", GREEN),
    "training": ("training", GREEN),
    "refreshing": ("waits for a refresh", GREEN),
    "evaluating": ("evaluating", GREEN),
    "done": ("done", BLUE),
    "stopped": ("stopped", GREY),
    "failed": ("failed", RED),
    "killed": ("nobody drives it", RED),
}


def heading(facts: RunFacts) -> str:
    """Return the run's state in one line."""
    word, color = _STATES[facts.state]
    minutes, seconds = divmod(round(facts.elapsed_s), 60)
    parts = [f"{minutes} min {seconds:02d} s at work"]
    if facts.attempts > 1:
        parts.append(f"attempt {facts.attempts}")
    if facts.faces and facts.faces.num_identities is None:
        parts.append("finding faces in photos")
    if facts.reason:
        parts.append(html.escape(facts.reason))
    label = f'<span class="fq-state" style="background:{color}">{word}</span>'
    return f"<div>{label}{' · '.join(parts)}</div>"


def triplet_card(triplet: Triplet, margin: float) -> str:
    """Return a mined triplet: three faces, where they come from, and its place in the band."""
    faces = "".join(
        _face(face, role, color)
        for face, role, color in (
            (triplet.anchor, "anchor", INK),
            (triplet.positive, f"positive {triplet.d2_ap:.3f}", BLUE),
            (triplet.negative, f"negative {triplet.d2_an:.3f}", ORANGE),
        )
    )
    return (
        f'<div class="fq-triplet"><div class="fq-faces">{faces}</div>{_band(triplet, margin)}</div>'
    )


def _face(face: Face, role: str, color: str) -> str:
    identity, source = html.escape(face.identity), html.escape(face.source)
    jpeg = base64.b64encode(face.jpeg).decode("ascii")
    return (
        f'<div class="fq-face" style="--role:{color}" title="{source}, face {face.face_index}">'
        f'<img src="data:image/jpeg;base64,{jpeg}" alt="{role.split()[0]}: {identity}">'
        f'<div class="fq-role">{role}</div><div>{identity}</div>'
        f'<div class="fq-source">{source.rsplit("/", 1)[-1]}</div></div>'
    )


def _band(triplet: Triplet, margin: float) -> str:
    """Return a bar from hard to easy, two margins wide, with the negative as a dot on it."""
    place = min(max((triplet.d2_an - triplet.d2_ap) / margin, -0.5), 1.5)
    words = "".join(
        f'<span style="color:{color}">{kind.label}</span>'
        for kind in KINDS_BY_DISTANCE
        for color in [kind.color if kind.name == triplet.kind else GREY]
    )
    return (
        f'<div class="fq-band"><i style="left:{50 * (place + 0.5):.1f}%"></i></div>'
        f'<div class="fq-words">{words}</div>'
    )
