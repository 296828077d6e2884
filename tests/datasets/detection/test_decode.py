from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.faces.jpeg import RgbImage
from facequarry.datasets.faces.schema import Reason, Rejected
from tests.datasets.photos import draw

_LIMIT = 1_000_000


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk
        + struct.pack(">I", len(data) - 4)
        + data
        + struct.pack(">I", zlib.crc32(data))
    )


def _reason_of(raw: bytes) -> Reason:
    with pytest.raises(Rejected) as caught:
        decode_photo(raw, max_pixels=_LIMIT)
    return caught.value.reason


def test_pixels_come_out_as_rgb() -> None:
    image = draw(1)
    assert np.array_equal(
        decode_photo(_encode(Image.fromarray(image), "PNG"), max_pixels=_LIMIT), image
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_every_format_is_decoded(kind: str) -> None:
    decoded = decode_photo(_encode(Image.fromarray(draw(1)), kind), max_pixels=_LIMIT)
    assert decoded.shape == (48, 40, 3)
    assert decoded.dtype == np.uint8


def _mean_difference(decoded: RgbImage, image: RgbImage) -> float:
    return float(np.abs(decoded.astype(int) - image.astype(int)).mean())


def test_gray_and_cmyk_become_rgb() -> None:
    gray = Image.fromarray(draw(1)).convert("L")
    decoded = decode_photo(_encode(gray, "PNG"), max_pixels=_LIMIT)
    assert np.array_equal(decoded, np.repeat(np.asarray(gray)[:, :, None], 3, axis=2))
    cmyk = Image.fromarray(draw(1)).convert("CMYK")
    decoded = decode_photo(_encode(cmyk, "JPEG", quality=95), max_pixels=_LIMIT)
    assert _mean_difference(decoded, draw(1)) < 12


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    gray = np.asarray(Image.fromarray(draw(1)).convert("L"))
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    decoded = decode_photo(_encode(deep, "PNG"), max_pixels=_LIMIT)
    assert np.array_equal(decoded[:, :, 0], gray)


def test_transparent_pixels_lie_on_white() -> None:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4, 3] = 255
    decoded = decode_photo(_encode(Image.fromarray(image), "PNG"), max_pixels=_LIMIT)
    assert decoded[:, :4].max() == 0
    assert decoded[:, 4:].min() == 255


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = _encode(Image.fromarray(draw(1)), "PNG", exif=exif)
    assert np.array_equal(decode_photo(raw, max_pixels=_LIMIT), np.rot90(draw(1), -1))


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 255)]
    raw = _encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_photo(raw, max_pixels=_LIMIT).max() == 0


def test_text_is_no_image() -> None:
    assert _reason_of(b"hello") is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cut_image_is_truncated(kind: str) -> None:
    raw = _encode(Image.fromarray(draw(1)), kind)
    assert _reason_of(raw[: len(raw) * 2 // 3]) is Reason.TRUNCATED


def test_broken_header_is_corrupt() -> None:
    assert _reason_of(b"\xff\xd8\xff" + bytes(20)) is Reason.CORRUPT


@pytest.mark.parametrize("side", [2_000, 12_000, 30_000])
def test_huge_photo_is_refused_from_its_header(side: int) -> None:
    raw = _png_header(side, side)
    assert len(raw) < 1000
    assert _reason_of(raw) is Reason.TOO_LARGE


def test_postscript_is_not_given_to_a_program() -> None:
    assert _reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") is Reason.NOT_AN_IMAGE
