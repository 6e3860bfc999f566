"""A terminal that cannot show every letter: what it cannot show is written with letters that it can."""

from __future__ import annotations

import codecs
import sys
import unicodedata

_SPELT = {
    "±": "+/-",
    "×": "x",
    "·": "*",
    "\u2212": "-",
    "→": "->",
    "∞": "inf",
    "∇": "grad ",
    "≤": "<=",
    "≥": ">=",
    "²": "^2",
}
_RULES = {"─": "-", "━": "-", "│": "|", "┃": "|"}


def spelt(text: str) -> str:
    """``text`` in ASCII: Greek letters by name, accents left out, tables drawn with ``- | +``, the rest escaped."""
    return "".join(letter if letter.isascii() else _spelt(letter) for letter in text)


def _spelt(letter: str) -> str:
    if known := _SPELT.get(letter) or _RULES.get(letter):
        return known
    name, category = unicodedata.name(letter, ""), unicodedata.category(letter)
    if name.startswith("GREEK") and category.startswith("L"):
        word = name.split(" WITH ")[0].split()[-1].lower()
        return word.capitalize() if category == "Lu" else word
    if name.startswith("BOX DRAWINGS"):
        return "+"
    if category in ("Pd", "Pi", "Pf"):
        return "-" if category == "Pd" else '"'
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or letter.encode("unicode_escape").decode()


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return spelt(error.object[error.start : error.end]), error.end


def show_anything() -> None:
    """From now on stdout and stderr take any text, whatever their encoding."""
    codecs.register_error("harness", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="harness")
