"""Bytes of a photo to RGB pixels, refusing what must not be decoded."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from facequarry.datasets.faces.jpeg import RgbImage
from facequarry.datasets.faces.schema import Reason, Rejected

# A closed list: some of Pillow's other formats start programs or read further files.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
_ORIENTATION_TAG = 0x0112


def decode_photo(raw: bytes, *, max_pixels: int) -> RgbImage:
    """Decode a photo as it is meant to be seen.

    EXIF rotation is applied; gray, CMYK, palette and 16-bit photos become 8-bit RGB; transparent
    pixels are laid on white; of an animation the first frame is taken.

    Args:
        raw: the file's bytes.
        max_pixels: width times height by the header above which nothing is decoded.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        Rejected: with the reason and what was found.
    """
    with warnings.catch_warnings():
        # Odd metadata is no reason to lose a photo; a size bomb is.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise Rejected(Reason.TOO_LARGE, f"{width} x {height} px, limit {max_pixels}")
                return _to_rgb(image)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Rejected(Reason.TOO_LARGE, str(error)) from error
        except UnidentifiedImageError as error:
            if raw.startswith(_MAGIC):
                raise Rejected(Reason.CORRUPT, "the image's header cannot be read") from error
            raise Rejected(Reason.NOT_AN_IMAGE, f"starts with {raw[:8]!r}") from error
        except (Rejected, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever their format library does
            cause = str(error) or type(error).__name__
            is_short = "truncated" in cause.lower() or isinstance(error, EOFError)
            raise Rejected(Reason.TRUNCATED if is_short else Reason.CORRUPT, cause) from error


def _to_rgb(image: Image.Image) -> RgbImage:
    image.load()
    if image.getexif().get(_ORIENTATION_TAG, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_gray(np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


def _from_deep_gray(gray: NDArray[np.generic]) -> RgbImage:
    # Pillow's own conversion clips 16-bit gray to white instead of scaling it.
    values = gray.astype(np.float32)
    scaled = np.clip(values / 257.0 if values.max(initial=0.0) > 255.0 else values, 0.0, 255.0)
    return np.repeat(scaled.round().astype(np.uint8)[:, :, None], 3, axis=2)
