# SPDX-License-Identifier: GPL-3.0-or-later
"""A model card as a page for people, made of nothing but the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dehaze_core.models.cards import ModelCard

_FACTS = (
    ("steps", "steps"),
    ("minutes", "minutes"),
    ("hardware", "hardware"),
    ("images", "clear images"),
    ("textures", "thickness textures"),
    ("gflop_per_mpx", "GFLOP per megapixel"),
)
"""Facts of a training in the order in which people ask for them: key, wording."""


def card_markdown(card: ModelCard) -> str:
    """Return the card as Markdown, headings from the second level on, ending with a line break."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: ModelCard) -> Iterator[str]:
    yield f"## {card.name}"
    yield ""
    facts = {
        "architecture": card.architecture,
        "parameters": f"{card.parameters:,}",
        "licence of the weights": card.licence,
        "sha256 of the weights": card.sha256,
    }
    yield from _pairs(facts)
    yield from _training(card.training, "Training")
    for title, scores in card.scores.items():
        yield from ("", f"### Measured: {title.replace('_', ' ')}", "")
        yield from _pairs({key.replace("_", " "): _number(value) for key, value in scores.items()})
    if card.limits:
        yield from ("", "### Known failures", "")
        yield from (f"- {limit}" for limit in card.limits)


def _training(training: Mapping[str, Any], heading: str) -> Iterator[str]:
    """Yield how a model was trained, and after it how the model was that it went on from."""
    if not training:
        return
    yield from ("", f"### {heading}", "")
    yield from _pairs({word: _number(training[key]) for key, word in _FACTS if key in training})
    if licences := training.get("licences"):
        yield from ("", "Licences of the images:", "")
        yield from (f"- {count} x {licence}" for licence, count in licences.items())
    for key, words in (("sites", "Trained on"), ("held_out_sites", "Held out")):
        if key in training:
            yield from ("", f"{words}: {', '.join(training[key])}.")
    if recipe := training.get("recipe"):
        yield from ("", "Recipe:", "", "```")
        yield from _flat(recipe)
        yield "```"
    if guide := training.get("guide"):
        yield from ("", f"Guided by {guide['name']}, weights with sha256 {guide['sha256'][:12]}.")
    if start := training.get("start"):
        yield from ("", f"Went on from weights with sha256 {start['sha256'][:12]}.")
        yield from _training(start["training"], f"{heading} before that")


def _pairs(facts: Mapping[str, object]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for key, value in facts.items():
        yield f"| {key} | {str(value).replace('|', '/')} |"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key} = {value}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
