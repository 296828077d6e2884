"""Which photos an ingest looks at: a source's photos, less those that nobody wants.

source = open_source(Path("vggface2_train.tar.gz"), cache=Path("faces/archives"))
wanted = Wanted.read(IngestConfig(leave_out=Path("peopleDevTest.txt"))).of(source.scan())
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.sources.archive import TarSource
from facequarry.datasets.sources.folder import OUTSIDE, FolderSource
from facequarry.datasets.sources.photos import Listing, Source, counted
from facequarry.datasets.sources.vggface2 import (
    MissingPhotos,
    missing_photos,
    read_boxes,
    read_identity_meta,
    with_boxes,
)
from facequarry.datasets.sources.wanted import (
    IN_LEAVE_OUT_LIST,
    NobodyLeft,
    choose_identities,
    read_names,
)

logger = logging.getLogger(__name__)

TOO_FEW = "of an identity with too few photos"


def open_source(path: Path, cache: Path) -> Source:
    """Open a folder of identity folders, or a tar or tar.gz of them.

    Args:
        path: what the user named.
        cache: where an archive's listing is kept.

    Raises:
        NotFound: there is no such path.
        BadInput: it is a file, but no archive.
    """
    if path.is_file():
        return TarSource.open(path, cache)
    if not path.is_dir():
        raise NotFound(
            f"no folder and no archive {path}; name the folder that holds <identity>/<image>, or "
            "a tar or tar.gz of it"
        )
    return FolderSource(path)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which photos of a source are wanted, and what else is known about them; read it once."""

    min_photos: int
    keep: list[str] | None
    leave_out: list[str] | None
    identity_meta: pa.Table | None
    boxes: pa.Table | None

    @classmethod
    def read(cls, config: IngestConfig) -> Wanted:
        """Read the lists and tables that the configuration names.

        Raises:
            NotFound, BadInput: one of them cannot be used; the sentence says why.
        """
        return cls(
            config.min_photos_per_identity,
            None if config.keep is None else read_names(config.keep),
            None if config.leave_out is None else read_names(config.leave_out),
            None if config.identity_meta is None else read_identity_meta(config.identity_meta),
            None if config.boxes is None else read_boxes(config.boxes),
        )

    def of(self, listing: Listing, *, more_to_come: bool = False) -> Listing:
        """Return the wanted photos of a listing, with their boxes, and count the others.

        Args:
            listing: what the source holds.
            more_to_come: it may hold none of the wanted photos yet.

        Raises:
            BadInput: no photo is wanted, or none has a box, and none is to come.
        """
        if not len(listing):
            return listing
        photos, left_out, notes = listing.photos, dict(listing.left_out), dict(listing.notes)
        if self.identity_meta is not None:
            notes |= _missing(missing_photos(photos, self.identity_meta))
        try:
            chosen = choose_identities(
                photos, keep=self.keep, leave_out=self.leave_out, meta=self.identity_meta
            )
        except NobodyLeft:
            if more_to_come:
                left_out["of identities that are not wanted"] = len(listing)
                return Listing(photos.slice(0, 0), left_out, listing.found, notes, photos)
            raise
        left_out |= chosen.left_out
        if self.leave_out and IN_LEAVE_OUT_LIST not in chosen.left_out and not more_to_come:
            logger.warning(
                "none of the %d names in the leave-out list is an identity of the source%s",
                len(self.leave_out),
                "" if self.identity_meta is not None else "; people's names need identity_meta.csv",
            )
        if chosen.unmatched:
            notes[f"names that are no identity here, such as {chosen.unmatched[0]}"] = len(
                chosen.unmatched
            )
        wanted = _of_large_identities(chosen.photos, self.min_photos)
        left_out[TOO_FEW] = chosen.photos.num_rows - wanted.num_rows
        if self.boxes is not None and wanted.num_rows:
            wanted, num_without = with_boxes(wanted, self.boxes, may_all_lack=more_to_come)
            notes["photos without a row in the box csv"] = num_without
        return Listing(wanted, counted(left_out), listing.found, counted(notes), photos)


def check_photos(source: Source, listing: Listing, wanted: Listing) -> None:
    """Refuse a source in which there is nothing to do.

    Raises:
        BadInput: no photo is left; the sentence says what was found instead.
    """
    if len(wanted):
        return
    path = source.path
    if len(listing):
        why = ", ".join(f"{count} {reason}" for reason, count in wanted.left_out.items())
        raise BadInput(
            f"none of the {len(listing)} photos in {path} is wanted ({why}); change keep, "
            "leave_out or min_photos_per_identity"
        )
    outside = listing.left_out.get(OUTSIDE, 0)
    if outside:
        raise BadInput(
            f"no identity folders in {path}: {outside} photos lie in it directly, expected one "
            "folder for each person, such as n000001/0001_01.jpg"
        )
    raise BadInput(f"no images in {path} ({listing.found}), expected n000001/*.jpg; try: make demo")


def _missing(missing: MissingPhotos) -> dict[str, int]:
    return {
        "photos of these people that identity_meta counts beyond these": missing.num_photos_missing,
        "training identities of identity_meta that the source lacks": missing.num_absent_train,
        "test identities of identity_meta that the source lacks": missing.num_absent_test,
        "identities that identity_meta does not name": missing.num_unknown,
    }


def _of_large_identities(photos: pa.Table, min_photos: int) -> pa.Table:
    if min_photos == 1:
        return photos
    identity = photos["identity"].combine_chunks().dictionary_encode()
    codes = identity.indices.to_numpy()
    return photos.filter(pa.array(np.bincount(codes)[codes] >= min_photos if len(codes) else []))
