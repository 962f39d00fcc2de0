"""For mkdocs: pages that lie outside of docs/ become pages of the site, and links to them hold."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"),
    *(f"bundles/dca_{name}/docs/README.md" for name in ("acdc", "synapse", "amos")),
)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^()\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of docs/."""
    for path in OUTSIDE:
        files.append(File.generated(config, _place(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    outside = {_place(path): path for path in OUTSIDE}
    folder = posixpath.dirname(outside.get(here, f"docs/{here}"))

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        return posixpath.relpath(_place(target), posixpath.dirname(here) or ".")

    return LINK.sub(moved, markdown)


def _place(path: str) -> str:
    """Where a file of the repository is on the site; LICENSE gets a name that browsers show as text."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path.replace('LICENSE', 'LICENSE.txt')}"
