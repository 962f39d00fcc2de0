"""The documentation holds together: every link leads somewhere, every page is found, and the site leaves none out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!\w+:)([^()\s]+)\)")
MENTION = re.compile(r"(?<![\w./-])docs/[\w./-]+\.(?:md|csv|png)\b")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(path: Path) -> str:
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Of the headings, as a Git host and the site name them."""
    headings = re.findall(r"^#+ (.+)$", without_code(path), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """What a page refers to: the link as it stands, the file that it means, and the anchor in it."""
    for link in LINK.findall(without_code(page)):
        path, _, anchor = link.partition("#")
        yield link, (page.parent / path).resolve() if path else page, anchor


def test_every_link_leads_to_a_file_and_a_heading(project_files: list[Path]) -> None:
    broken = []
    for page in (path for path in project_files if path.suffix == ".md"):
        for link, target, anchor in links(page):
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{name(page)}: {link}")
    assert broken == []


def test_every_page_that_a_file_mentions_exists(project_files: list[Path]) -> None:
    broken = []
    for path in project_files:
        if path.suffix in (".md", ".py", ".txt", ".toml", ".json") or path.name == "Makefile":
            mentioned = MENTION.findall(path.read_text(encoding="utf-8"))
            places = (ROOT, path.parents[1])  # a bundle has docs/, too
            broken += [f"{name(path)}: {page}" for page in mentioned if not any((p / page).is_file() for p in places)]
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    pages = set(DOCS.rglob("*.md"))
    reached, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in pages - reached:
            reached.add(page)
            ahead += [target for _, target, _ in links(page)]
    assert [name(page) for page in sorted(pages - reached)] == []


def test_the_site_lists_every_page() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, list | dict):
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(part)

    listed = list(pages(config["nav"]))
    assert len(listed) == len(set(listed))
    own = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert {page for page in listed if not page.startswith("project/")} == own
    outside = [page.removeprefix("project/") for page in listed if page.startswith("project/")]
    assert [page for page in outside if not (ROOT / page).is_file()] == []


def test_lists_stand_apart_from_the_text_before_them(project_files: list[Path]) -> None:
    """Else the site runs them together, as no Git host does."""
    item = re.compile(r"(- |\d\. )")

    def joined(page: Path) -> list[str]:
        blocks = [block.splitlines() for block in re.split(r"\n\s*\n", without_code(page)) if block.strip()]
        blocks = [lines for lines in blocks if not re.match(r"\s*(- |\d\. )|\s{2}", lines[0])]
        return [line for lines in blocks for line in lines if item.match(line)]

    assert {name(p): found for p in project_files if p.suffix == ".md" and (found := joined(p))} == {}
