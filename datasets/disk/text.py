"""Text files that people hand over: lists and csv files, in the spellings met in the wild.

    read_text(Path("leave_out.txt"), expected="a list of identities")

UTF-8 with or without a byte order mark, lines ended by LF, CRLF or CR. Anything else is refused
in one sentence before it can be misread.
"""

from __future__ import annotations

import re
from pathlib import Path

from facequarry.datasets.disk.errors import BadInput, NotFound

_HEAD_BYTES = 4096
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_MAX_QUOTED_CHARS = 60


def read_text(path: Path, *, expected: str) -> str:
    r"""Read a UTF-8 text file whole, without its byte order mark, every line ended by `\n`.

    Args:
        path: the file.
        expected: what it should hold, for the sentence of a refusal.

    Raises:
        NotFound: there is no such file.
        BadInput: it is a folder, empty, binary or not UTF-8.
    """
    if not path.exists():
        raise NotFound(f"no file {path}, expected {expected}")
    if path.is_dir():
        raise BadInput(f"{path} is a folder, expected {expected}")
    with path.open("rb") as file:
        # An archive named by mistake may be larger than memory: its first bytes tell.
        head = file.read(_HEAD_BYTES)
        _refuse_binary(head, path, expected)
        raw = head + file.read()
    raw = raw.removeprefix(_UTF8_MARK)
    nul = raw.find(b"\0")
    if nul >= 0:
        raise BadInput(f"{path} line {_line_at(raw, nul)} holds a NUL byte, expected {expected}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} line {_line_at(raw, error.start)} holds the byte 0x{raw[error.start]:02x}, "
            f"which is not UTF-8, expected {expected}; save the file as UTF-8"
        ) from error
    if not text or text.isspace():
        raise BadInput(f"{path} is empty, expected {expected}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def quoted(text: str) -> str:
    """Return what was found in quotes, cut to what fits in a sentence."""
    short = text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "..."
    return repr(short)


def printable(said: object) -> str:
    """Return what a library said of bytes that it quotes, fit for one line of a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(said))


def _refuse_binary(head: bytes, path: Path, expected: str) -> None:
    if head.startswith(_UTF16_MARKS):
        raise BadInput(f"{path} is UTF-16 text, expected {expected}; save the file as UTF-8")
    if _CONTROL.search(head):
        raise BadInput(
            f"{path} is no UTF-8 text (it starts with the bytes {head[:4].hex(' ')}), "
            f"expected {expected}"
        )


def _line_at(raw: bytes, position: int) -> int:
    before = raw[:position].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return before.count(b"\n") + 1
