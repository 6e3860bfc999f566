"""A paper that a report's files go into, set by pdflatex: once, and with nothing beyond its margins."""

import subprocess
from pathlib import Path


def set_in_one_pass(folder: Path, points: int | float, floats: str) -> None:
    """``floats`` on a page ``points`` wide, in ``folder``, whose files they name."""
    (folder / "paper.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\setlength{{\textwidth}}{{{points}pt}}"
        rf"\begin{{document}}{floats}\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Rerun" not in done.stdout


TABLE = r"\begin{table}\centering\caption{A}\input{table}\end{table}"
