"""What the benchmarks write their results down with: Markdown tables, and what was published elsewhere."""

from collections.abc import Iterable, Sequence

from strays.cards import Card


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], words: frozenset[str] = frozenset()) -> str:
    """Return a table; the first column and those named in ``words`` stand on the left, numbers on the right."""
    rule = ["---" if place == 0 or name in words else "---:" for place, name in enumerate(header)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def published(card: Card, datasets: Sequence[str]) -> dict[str, str]:
    """Return AP / FPR95 in per cent that a card has for data sets; of several networks, the first one named."""
    found: dict[str, dict[str, float]] = {}
    for one in card.published:
        if one.dataset in datasets and one.metric in ("AP", "FPR95"):
            found.setdefault(one.dataset, {}).setdefault(one.metric, one.value)
    return {
        dataset: f"{100 * values['AP']:.1f} / {100 * values['FPR95']:.1f}"
        for dataset, values in found.items()
        if len(values) == 2
    }
