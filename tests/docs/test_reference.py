"""The committed reference pages say what the cards say."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from strays.cards import Published
from strays.detectors import DETECTORS

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("strays_docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_committed_pages_are_up_to_date(generate: ModuleType) -> None:
    assert generate.outdated() == [], "the cards have changed: run `make docs` and commit docs/reference"


def test_a_changed_a_missing_and_a_foreign_page_are_noticed(generate: ModuleType, tmp_path: Path) -> None:
    for name, text in generate.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert generate.outdated(tmp_path) == []
    (tmp_path / "recipes.md").unlink()
    (tmp_path / "networks.md").write_text("changed", encoding="utf-8")
    (tmp_path / "more.md").write_text("", encoding="utf-8")
    assert generate.outdated(tmp_path) == ["more.md", "networks.md", "recipes.md"]


def test_every_detector_has_its_row_and_section(generate: ModuleType) -> None:
    text = generate.pages()["detectors.md"]
    for name, kind in DETECTORS.items():
        assert f"| [`{name}`](#{name}) | {kind.card.title} |" in text
        assert f"\n## {name}\n" in text
        assert all(f" {100 * one.value:.2f} |" in text for one in kind.card.published)


def test_published_numbers_stand_in_the_row_of_their_protocol(generate: ModuleType) -> None:
    found = generate.published_table(
        [
            Published(dataset="A", metric="AP", value=0.25, network="n", protocol="p|q"),
            Published(dataset="A", metric="FPR95", value=0.5, network="n", protocol="p|q"),
            Published(dataset="B", metric="FPR95", value=0.125),
        ]
    )
    assert found.splitlines()[2:] == [
        "| Data set | Network | AP | FPR95 | Protocol |",
        "| --- | --- | --- | --- | --- |",
        "| A | n | 25.00 | 50.00 | p\\|q |",
        "| B |  |  | 12.50 |  |",
    ]


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda one: one.name
)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name} links to {target}, a heading that is not there"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
