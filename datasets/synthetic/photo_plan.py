"""Which person every synthetic photo shows and which photo it repeats: the truth about suspects.

A set may hold label errors and near-duplicates on request. What each photo is follows from its own
numbers alone, so that it is known without drawing anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.synthetic.people import rng_of
from facequarry.datasets.synthetic.photo_options import PhotoOptions

# Ends of a photo's key; `synthetic.scene` has 1 and 2.
_ERROR, _PLAN = 3, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoPlan:
    """What one file of a set holds."""

    identity: int
    """Whose folder it lies in."""
    photo: int
    """Its number there."""
    shows: int
    """The person it truly shows."""
    key: tuple[int, ...]
    """Of the random numbers that its scene, or its original's, is drawn from."""
    copy_of: tuple[int, int] | None
    """Identity and photo number of the photo that it repeats."""

    @property
    def source(self) -> str:
        """Its path in the set."""
        return source_of(self.identity, self.photo)


def source_of(identity: int, photo: int) -> str:
    """Return the path of a photo as VGGFace2 spells it: n000001/0001_01.jpg."""
    return f"n{identity:06d}/{photo:04d}_01.jpg"


def plan_photo(
    identity: int, photo: int, *, num_identities: int, options: PhotoOptions, seed: int
) -> PhotoPlan:
    """Return what one file holds.

    A near-duplicate repeats an earlier photo of its own identity, or of another one as often as
    `options.copies_across` says; never another near-duplicate, but the original of that one.

    Raises:
        BadInput: label errors, or copies across identities, are asked of a single identity.
    """
    refuse_single(num_identities, options)
    rng = rng_of(seed, identity, photo, _PLAN)
    is_error = rng.uniform() < options.label_errors
    other = _another(identity, num_identities, rng.uniform())
    is_copy = photo > 1 and rng.uniform() < options.near_duplicates
    if is_copy:
        earlier = int(rng.integers(1, photo))
        home = identity
        if rng.uniform() < options.copies_across:
            home = _another(identity, num_identities, rng.uniform())
        original = plan_photo(
            home, earlier, num_identities=num_identities, options=options, seed=seed
        )
        return PhotoPlan(
            identity=identity,
            photo=photo,
            shows=original.shows,
            key=original.key,
            copy_of=original.copy_of or (original.identity, original.photo),
        )
    return PhotoPlan(
        identity=identity,
        photo=photo,
        shows=other if is_error else identity,
        key=(other, photo, identity, _ERROR) if is_error else (identity, photo),
        copy_of=None,
    )


def refuse_single(num_identities: int, options: PhotoOptions) -> None:
    """Refuse what needs another identity where there is none.

    Raises:
        BadInput: label errors, or copies across identities, are asked of a single identity.
    """
    across = options.near_duplicates and options.copies_across
    if num_identities < 2 and (options.label_errors or across):
        name = "label_errors" if options.label_errors else "copies_across"
        raise BadInput(f"{name} needs two identities or more, num_identities is {num_identities}")


def _another(identity: int, num_identities: int, drawn: float) -> int:
    """Return the identity but `identity` that `drawn`, 0 to 1, stands for."""
    # One number whatever the range: what is drawn next must not depend on `num_identities`.
    number = 1 + int(drawn * (num_identities - 1))
    return number if number < identity else number + 1
