"""Seeded synthetic face photos in the VGGFace2 layout, for the demo and the tests.

    from facequarry.datasets.synthetic import write_photos
    write_photos(Path("photos"), num_identities=48, photos_per_identity=14)

Every photo is drawn from (seed, identity number, photo number) and the options alone: asking for
more identities or photos changes none of the earlier ones, but for label errors and copies across
identities, which name others of the set. `synthetic.people` and `synthetic.photo_options` say what
is drawn at random, `synthetic.photo_plan` which person a photo shows, `synthetic.scene` who stands
where; `synthetic.render` and its canvas and accessories turn it into pixels.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from facequarry.datasets.disk.errors import AlreadyExists, BadInput, NotFound
from facequarry.datasets.disk.publish import staged_folder
from facequarry.datasets.faces.schema import Reason
from facequarry.datasets.synthetic.copies import Variation, random_variation, to_jpeg
from facequarry.datasets.synthetic.people import rng_of
from facequarry.datasets.synthetic.photo_options import PhotoOptions
from facequarry.datasets.synthetic.photo_plan import PhotoPlan, plan_photo, refuse_single
from facequarry.datasets.synthetic.photo_truth import PhotoTruth, truth_of, write_tables
from facequarry.datasets.synthetic.scene import Scene, make_scene

# What the digits of VGGFace2's names can count.
_MAX_IDENTITIES, _MAX_PHOTOS = 999_999, 9_999
_MAX_SEED = 2**63 - 1
_VARIATION = 5  # end of a copy's key; `synthetic.scene` and `synthetic.photo_plan` have 1 to 4
_PLAIN = PhotoOptions()


def write_photos(
    folder: Path,
    *,
    num_identities: int,
    photos_per_identity: int,
    seed: int = 0,
    options: PhotoOptions = _PLAIN,
) -> int:
    """Write `folder/n000001/0001_01.jpg` and so on; all of it appears at once or not at all.

    With other options than the default, `loose_bb.csv` and `truth.csv` lie beside the identities'
    folders.

    Args:
        folder: absent or empty.
        num_identities: 1..999999, numbered from 1.
        photos_per_identity: 1..9999, numbered from 1.
        seed: 0..2^63 - 1; another seed gives other people.
        options: what the photos show beyond plain portraits.

    Returns:
        The number of photos written.

    Raises:
        BadInput: a number is out of range.
        AlreadyExists: `folder` holds something, or is a file.
    """
    for name, value, low, high in (
        ("num_identities", num_identities, 1, _MAX_IDENTITIES),
        ("photos_per_identity", photos_per_identity, 1, _MAX_PHOTOS),
        ("seed", seed, 0, _MAX_SEED),
    ):
        if not low <= value <= high:
            raise BadInput(f"{name} is {value}, expected {low}..{high}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder} is not an empty folder; name a new one or empty it first")
    refuse_single(num_identities, options)
    truths: list[PhotoTruth] = []
    with staged_folder(folder) as staging:
        for identity in range(1, num_identities + 1):
            (staging / f"n{identity:06d}").mkdir()
            for photo in range(1, photos_per_identity + 1):
                raw, truth = make_photo(
                    identity, photo, num_identities=num_identities, options=options, seed=seed
                )
                (staging / truth.source).write_bytes(raw)
                truths.append(truth)
        if options != _PLAIN:
            write_tables(staging, truths)
    return len(truths)


def write_bad_photos(folder: Path, *, seed: int = 0) -> dict[Reason, int]:
    """Add photos that must be rejected to the identities `write_photos` made in `folder`.

    Args:
        folder: holds `n000001` and so on; the photos are spread over the first of them.
        seed: of the two landscapes.

    Returns:
        How many were added, by the reason that ingestion should give.

    Raises:
        NotFound: `folder` holds no identity; run `write_photos` first.
        AlreadyExists: the photos were added before.
    """
    homes = sorted(path for path in folder.glob("n*") if path.is_dir())
    if not homes:
        raise NotFound(f"no identities under {folder}, expected n000001/ and so on")
    portrait = photo_bytes(1, 1, seed=seed)
    files = [
        (Reason.TRUNCATED, portrait[: len(portrait) // 3]),
        (Reason.NOT_AN_IMAGE, b"<html><body>404 Not Found</body></html>\n"),
        (Reason.EMPTY_FILE, b""),
        (Reason.NO_FACE, _landscape(np.random.default_rng((seed, 1)))),
        (Reason.NO_FACE, _landscape(np.random.default_rng((seed, 2)))),
    ]
    for number, (_, content) in enumerate(files):
        # Face 2 of a photo: `write_photos` writes only face 1, so the names never meet.
        path = homes[number % len(homes)] / f"{number + 1:04d}_02.jpg"
        with path.open("xb") as file:
            file.write(content)
    return dict(Counter(reason for reason, _ in files))


def photo_bytes(identity: int, photo: int, *, seed: int = 0) -> bytes:
    """Return the JPEG of one plain portrait; `identity` and `photo` are numbered from 1."""
    return make_photo(identity, photo, num_identities=1, options=_PLAIN, seed=seed)[0]


def make_photo(
    identity: int, photo: int, *, num_identities: int, options: PhotoOptions, seed: int = 0
) -> tuple[bytes, PhotoTruth]:
    """Return the JPEG of one photo of a set and what it is.

    Raises:
        BadInput: label errors, or copies across identities, are asked of a single identity.
    """
    plan, scene, variation = _photo(identity, photo, num_identities, options, seed)
    raw = to_jpeg(scene.draw(), quality=scene.quality)
    if variation is None:
        return raw, truth_of(plan, scene, scene.box)
    return variation.apply(raw), truth_of(plan, scene, variation.moved(scene.box))


def photo_truth(
    identity: int, photo: int, *, num_identities: int, options: PhotoOptions, seed: int = 0
) -> PhotoTruth:
    """Return what one photo of a set is, as `make_photo` does, without drawing it."""
    plan, scene, variation = _photo(identity, photo, num_identities, options, seed)
    return truth_of(plan, scene, variation.moved(scene.box) if variation else scene.box)


def _photo(
    identity: int, photo: int, num_identities: int, options: PhotoOptions, seed: int
) -> tuple[PhotoPlan, Scene, Variation | None]:
    plan = plan_photo(identity, photo, num_identities=num_identities, options=options, seed=seed)
    scene = make_scene(plan.shows, plan.key, options, seed=seed)
    if plan.copy_of is None:
        return plan, scene, None
    shot = scene.named[1]
    rng = rng_of(seed, identity, photo, _VARIATION)
    return plan, scene, random_variation((shot.width_px, shot.height_px), rng)


def _landscape(rng: np.random.Generator) -> bytes:
    """Return the JPEG of sky, hills and a field: a photo without a face."""
    height, width = 200, 240
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.array((235, 190, 130), np.float32) * (1 - down) + np.array((215, 225, 235)) * down
    picture = np.ascontiguousarray(np.broadcast_to(sky, (height, width, 3)), np.uint8)
    x = np.arange(width)
    for level, colour in ((90, (120, 105, 80)), (120, (80, 115, 75)), (150, (60, 140, 110))):
        wave = rng.uniform(4, 14) * np.sin(x / rng.uniform(12, 45) + rng.uniform(0, 6))
        ridge = np.stack([x, level + wave + rng.uniform(-0.2, 0.2) * x], 1)
        hill = np.concatenate([ridge, [(width, height), (0, height)]]).astype(np.int32)
        cv2.fillPoly(picture, [hill], colour, cv2.LINE_AA)
    noise = rng.normal(0, 5, picture.shape)
    return to_jpeg(np.asarray(np.clip(picture + noise, 0, 255), np.uint8), quality=90)
