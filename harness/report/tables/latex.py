"""Tables as a LaTeX document that pdflatex compiles as it is, whatever the names in it."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence

from harness.report.tables.cells import Cell, Math, Table, shown

_HEAD = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=12mm]{geometry}
\usepackage{amsmath,array,booktabs,longtable}
\setlength{\tabcolsep}{3pt}
\setlength{\LTleft}{0pt}
\raggedright
\begin{document}
\scriptsize
"""
_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    # after \\ a bracket or an asterisk would be an argument; ligatures would join the others
    **{sign: f"{{{sign}}}" for sign in "[]*`'-"},
    '"': "{''}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "φ": r"$\phi$",
    "α": r"$\alpha$",
    "κ": r"$\kappa$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "×": r"$\times$",
    "±": r"$\pm$",
}
_POWER = re.compile(r"(-?\d\.\d+)e([+-]\d+)")
_WIDE, _HEADER = 34, 11


def to_latex(tables: Sequence[Table]) -> str:
    """A complete document with a ``longtable`` in booktabs' style for each table."""
    return _HEAD + "\n".join(_table(table) for table in tables) + "\\end{document}\n"


def escaped(text: str) -> str:
    """``text`` as LaTeX that shows it; letters that Computer Modern lacks as their code point."""
    return "".join(_sign(letter) for letter in text)


def _sign(letter: str) -> str:
    if letter in _SIGNS:
        return _SIGNS[letter]
    accented = letter <= "ÿ" and unicodedata.normalize("NFD", letter)[0].isascii()
    return letter if " " <= letter <= "~" or accented else f"U+{ord(letter):04X}"


def _table(table: Table) -> str:
    columns = [[row[index] for row in table.rows] for index in range(len(table.columns))]
    lines = [
        rf"\section*{{{escaped(table.title)}}}",
        rf"\begin{{longtable}}{{@{{}}{''.join(map(_alignment, columns))}@{{}}}}",
        r"\toprule",
        _row([_header(column) for column in table.columns]),
        r"\midrule\endhead",
        *(_row([_cell(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{longtable}",
        *(rf"\noindent {escaped(note)}\par" for note in table.notes),
    ]
    return "\n".join(lines) + "\n"


def _alignment(cells: Sequence[Cell]) -> str:
    words = [cell for cell in cells if isinstance(cell, str) and not isinstance(cell, Math)]
    if not words:
        return "l" if any(isinstance(cell, Math) for cell in cells) else "r"
    return r">{\raggedright\arraybackslash}p{50mm}" if max(map(len, words)) > _WIDE else "l"


def _row(cells: Sequence[str]) -> str:
    return "{}" + " & ".join(cells) + r" \\"


def _header(text: str) -> str:
    lines = textwrap.wrap(text, _HEADER, break_long_words=False) or [""]
    return r"\shortstack[l]{" + r"\\".join(map(escaped, lines)) + "}"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Math):
        return f"${cell.latex}$"
    text = shown(cell)
    if isinstance(cell, float) and (found := _POWER.fullmatch(text)):
        return rf"${found[1]}\times 10^{{{int(found[2])}}}$"
    return escaped(text)
