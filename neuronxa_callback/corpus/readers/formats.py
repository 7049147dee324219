"""Files that are no lines of sentences, recognized by their first lines and refused by name."""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from neuronxa_callback.corpus.readers.lines import raw_lines
from neuronxa_callback.corpus.text import is_marker, shorten
from neuronxa_callback.errors import CorpusError

HEAD = 40
"""Lines that are looked at."""
MIN_LINES = 2
"""With fewer lines of one form, the form is not a format."""
STARTS = (
    (b"version https://git-lfs.github.com/spec/", "a git-lfs pointer; run 'git lfs pull'"),
    (b"PK\x03\x04", "a zip archive; extract it"),
    (b"\x1f\x8b", "a gzip archive; its name must end in .gz"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; extract it"),
    (b"\xfd7zXZ", "an xz archive; extract it"),
    (b"BZh", "a bzip2 archive; extract it"),
    (b"/annex/objects/", "a git-annex pointer; run 'git annex get'"),
    (b"%PDF-", "a PDF file"),
    (b"PAR1", "a parquet file; use from_parquet"),
    (b"SQLite format 3", "an SQLite database"),
    (b"{\\rtf", "an RTF file"),
    (b"WEBVTT", "subtitles (WebVTT)"),
    (b"[Script Info]", "subtitles (SubStation Alpha)"),
    (b"\xff\xfe", "UTF-16 or UTF-32 text; convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16 text; convert it to UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text; convert it to UTF-8"),
)
"""The first bytes of a file, and what it is."""
SENTENCE = re.compile(r"\d+|.{3,}[.!?…。！？।۔؟]['\"»”’)]*")
MAX_WORDS = 4
"""The name of a column with more words is a sentence."""
HTML = re.compile(r"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
XML = re.compile(r"\s*<(?:\?xml|!DOCTYPE|tmx|xliff|mteval|(?:ref|src|tst)set|doc|corpus)\b", re.I)
LINES = (
    (re.compile(r"\d\d?:\d\d(?::\d\d)?[,.]\d+ --> .*"), 0.15, "subtitles (.srt)"),
    (re.compile(r"\{\d+\}\{\d+\}.*|\[\d+:\d\d[.:]\d+\].*"), 0.5, "subtitles"),
    (re.compile(r"(?:msgid|msgstr)(?:\[\d\])? \".*\""), 0.3, "a gettext catalogue (.po)"),
    (re.compile(r"[{\[].*[}\]],?"), 0.8, "JSON; use from_jsonl"),
    (re.compile(r'[\w.-]+ ?= ?\S.*|".+" = ".*";'), 0.8, "a table of keys and sentences"),
    (re.compile(r"\S*\d\S*\t.*"), 0.8, "a table of ids and sentences; use from_tsv or cut -f2"),
    (
        re.compile(
            r"(?:[\w.-]*[A-Za-z][\w.-]*[_.:-]\d[\w:.-]*|[1-3A-Z]{3} \d+:\d+|\d{5,}) .+", re.ASCII
        ),
        0.8,
        "a list of ids and sentences; cut the ids off",
    ),
    (re.compile(r'"[^"]*"(?:[,;]"[^"]*")+'), 0.8, "a csv table; use from_tsv"),
    (re.compile(r"[^\t]+(?:\t[^\t]+)+"), 0.8, "a table with tabs; use from_tsv"),
    (re.compile(r"[\w-]*\d[\w-]* \|\|\| .*|.+ \|\|\| .+"), 0.8, "a table with ' ||| '"),
)
"""The form of lines, the least share of lines that have it, and what the file is."""


def refuse_other_formats(path: Path, is_table: bool = False) -> None:
    """Refuse a file that is not text, or whose lines are no sentences.

    Args:
        path: The file, also ``.gz``.
        is_table: Whether lines are rows of a table, and not sentences.

    Raises:
        CorpusError: If it is another format, which the message names.
    """
    head = list(islice(raw_lines(path), HEAD))
    name = _binary_format(head) or _text_format(head, is_table)
    if name:
        expected = "a table" if is_table else "one sentence per line"
        raise CorpusError(f"a corpus file must be {expected}, but {path} is {name}")


def refuse_headless(path: Path, columns: Sequence[str]) -> None:
    """Refuse a tsv or csv file in whose first line no language was found, if it is no header.

    Args:
        path: The file, also ``.gz``.
        columns: The cells of its first line.

    Raises:
        CorpusError: If it is another format, or the cells look like sentences.
    """
    name = _text_format(list(islice(raw_lines(path), HEAD)), is_table=False)
    if name and "from_tsv" not in name:
        raise CorpusError(f"a corpus file must be a table, but {path} is {name}")
    if any(map(_is_sentence, columns)):
        hint = "" if len(columns) > 1 else ", or name the folder of files of one sentence per line"
        raise CorpusError(
            "the first line of a table must be a header that names the language of each column,"
            f" such as 'en' and 'de', but {path} begins with {shorten(columns[0])!r}; add a header"
            f"{hint}"
        )


def _binary_format(head: Sequence[bytes]) -> str | None:
    start = b"".join(head[:1])[:64]
    known = next((name for magic, name in STARTS if start.startswith(magic)), None)
    if known is None and any(b"\0" in line for line in head):
        text = b"".join(head)[:4000]
        is_wide = 8 * text.count(b"\0\0") > len(text)  # half of each letter is zero in UTF-32
        return f"UTF-{32 if is_wide else 16} text; convert it to UTF-8"
    return known


def _text_format(head: Sequence[bytes], is_table: bool) -> str | None:
    lines = [line.decode("utf-8", "replace").strip("\ufeff\r\n") for line in head]
    lines = [line for line in lines if line.strip()]
    start = "".join(lines[:1])
    if HTML.match(start):
        return "an HTML page"
    # A header never begins like XML, but a sentence may.
    if XML.match(start) and (is_table or sum(map(is_marker, lines)) > 0.5 * len(lines)):
        return "XML or SGML (.tmx, .sgm, .xlf); extract its sentences"
    if is_table or not lines:
        return None
    for form, share, name in LINES:
        count = sum(form.fullmatch(line) is not None for line in lines)
        if count >= max(MIN_LINES * (share > 0.5), share * len(lines), 1):
            return name
    return None


def _is_sentence(cell: str) -> bool:
    """Whether the name of a column is a sentence or a number, as in a table without a header."""
    text = cell.strip()
    return SENTENCE.fullmatch(text) is not None or len(text.split()) > MAX_WORDS
