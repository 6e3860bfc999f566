"""For the site: files beside docs/ that pages link to are copied into it; links to folders become their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)#]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add what is linked to."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for _, _, path, _ in _LINK.findall(page.read_text()):
            if (ROOT / path).is_file() and files.get_file_from_path(_copy(path)) is None:
                files.append(File.generated(config, _copy(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to where they were copied."""

    def there(match: re.Match[str]) -> str:
        image, text, path, _ = match.groups()
        if not (ROOT / path).is_file():
            return f"{text} (`{path}`)"
        return f"{image}[{text}]({_copy(path)})"

    return _LINK.sub(there, markdown)


def _copy(path: str) -> str:
    """Sources are shown as text, and are no pages."""
    return f"beside/{path}.txt" if path.endswith((".md", ".py")) else f"beside/{path}"
