"""A prompt: the music in words, or a blend of several such texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from protocol.errors import InvalidField
from protocol.fields import Number, Row, Text

MAX_PROMPT = 2_000  # characters
MAX_TEXTS = 4
TEXT = Text("The music in words", max_length=MAX_PROMPT)
WEIGHT = Number("Its share", 0, 1_000, above=True)


@dataclass(frozen=True)
class WeightedText:
    text: str
    weight: float


Blend: TypeAlias = tuple[WeightedText, ...]
Prompt: TypeAlias = str | Blend


def blend(prompt: Prompt) -> Blend:
    """The texts of a prompt, with weights whose sum is 1."""
    if isinstance(prompt, str):
        return (WeightedText(prompt, 1.0),)
    total = sum(one.weight for one in prompt)
    return tuple(WeightedText(one.text, one.weight / total) for one in prompt)


def named_texts(name: str, prompt: Prompt) -> Iterator[tuple[str, str]]:
    """Each text of the prompt, behind the name that an error gives it."""
    if isinstance(prompt, str):
        yield name, prompt
    else:
        for number, one in enumerate(prompt):
            yield f"{name}[{number}].text", one.text


def title(prompt: Prompt) -> str:
    """The prompt as one text, for people."""
    return " + ".join(text for _, text in named_texts("", prompt))


def as_json(prompt: Prompt) -> str | list[dict[str, Any]]:
    return prompt if isinstance(prompt, str) else [asdict(one) for one in prompt]


@dataclass(frozen=True)
class Prompts(Row):
    """Text, or a list of up to four objects with a text and its weight."""

    def check(self, name: str, value: Any) -> Prompt:
        if not isinstance(value, list):
            return TEXT.check(name, value)
        if not 1 <= len(value) <= MAX_TEXTS:
            problem = f"has {len(value)} texts; send 1 to {MAX_TEXTS} of them"
            raise InvalidField.of_field(name, problem)
        return tuple(self._weighted(f"{name}[{n}]", one) for n, one in enumerate(value))

    def _weighted(self, name: str, value: Any) -> WeightedText:
        if not isinstance(value, dict) or not value.keys() <= {"text", "weight"}:
            problem = "is no object of text and weight alone; send one"
            raise InvalidField.of_field(name, problem)
        text = TEXT.check(f"{name}.text", value.get("text"))
        return WeightedText(text, WEIGHT.check(f"{name}.weight", value.get("weight", 1.0)))

    @property
    def range(self) -> str:
        return f"{TEXT.range}, or a blend: 1 to {MAX_TEXTS} of `{{text, weight}}`"

    @property
    def schema(self) -> dict[str, Any]:
        one = {
            "type": "object",
            "properties": {"text": TEXT.schema, "weight": WEIGHT.schema},
            "required": ["text"],
            "additionalProperties": False,
        }
        texts = {"minItems": 1, "maxItems": MAX_TEXTS, "items": one}
        return {**TEXT.schema, "type": ["string", "array"], **texts}

    @property
    def tensor(self) -> tuple[str, list[int]]:
        return TEXT.tensor
