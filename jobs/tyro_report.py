"""Where tyro offers no setting: its report as one sentence, and field texts as one paragraph.

Both read what tyro 1.0 prints and how it reads docstrings, which it does not promise;
`tests/jobs/test_tyro_report.py` is the contract, and `pyproject.toml` admits tyro 1.0 alone. Its
hook for errors (`tyro._errors`) is private and hands out internal types, so the text it is.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from unittest import mock

import docstring_parser

_parse_docs = docstring_parser.parse_from_object


@contextlib.contextmanager
def joined_doc_lines() -> Iterator[None]:
    """Let `--help` wrap each field's text as one paragraph, for the block.

    tyro keeps a line break before every indented line, which all but the first of a field's
    docstring are.
    """
    with mock.patch.object(docstring_parser, "parse_from_object", _parse_joined_docs):
        yield


def _parse_joined_docs(
    obj: object, style: docstring_parser.DocstringStyle = docstring_parser.DocstringStyle.AUTO
) -> docstring_parser.Docstring:
    docs = _parse_docs(obj, style)
    for param in docs.params:
        param.description = param.description and " ".join(param.description.split())
    return docs


def one_sentence(report: str) -> str:
    """Take the sentence out of tyro's box: no frame, no colours, no help text."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", report)
    # Where output is ASCII, the frame is rules, and its title a line above the first of them.
    plain = re.split(r"^ *-{9,} *$", plain, maxsplit=1, flags=re.MULTILINE)[-1]
    lines = [line.strip("│ ") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    words = " ".join(line.strip("─ ") for line in lines if not line.startswith("For full help"))
    words = re.sub(r" -{9,}( |$)", " ", words)
    words = re.sub(r"\s+", " ", words).split(" Argument helptext:")[0].strip()
    if missing := re.match(r"Missing from facequarry \w+: (--\S+)", words):
        unknown = re.search(r"Unrecognized options: .*?(?=$| facequarry)", words)
        words = f"{missing[1]} is missing" + (f"; {unknown[0]}" if unknown else "")
    words = re.sub(
        r"^Error parsing (--\S+): invalid literal for int\(\) with base 10: (.*)",
        r"\1 is \2, expected a whole number",
        words,
    )
    words = re.sub(r"^Error parsing [\w.]+: ", "", words)
    return re.sub(r" Perhaps you meant: (\S+).*", r"; did you mean \1?", words)
