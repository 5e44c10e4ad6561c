"""Prompts that ask for a digit, as bytes; and wordings that training never sees.

A prompt is read as UTF-8 bytes, so that any language can be taught without a list of words. One
that names no digit ("a handwritten digit", "hello") is taught to mean any: it draws one of the ten,
as chance has it. What one draws that names several is not taught.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.networks.text_transformer import PROMPT
from genslim.errors import UserError


@dataclass(frozen=True)
class Language:
    """Names of the ten digits, and sentences around one."""

    names: tuple[str, ...]
    wordings: tuple[str, ...]
    held_apart: tuple[str, ...] = ()
    """Wordings that only the judge uses."""


NUMERALS = tuple("0123456789")
LANGUAGES = (
    Language(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        (
            "{}",
            "a {}",
            "{}!",
            "the digit {}",
            "the number {}",
            "number {}",
            "draw {}",
            "draw a {}",
            "please write {}",
            "write a {} for me",
            "handwritten {}",
            "a handwritten {}",
            "a drawing of {}",
            "a picture of the digit {}",
            "an image of a {}",
            "this is a {}",
            "{} please",
            "{} in white on black",
        ),
        ("a sketch of a {}", "show me the number {}", "I want to see a {}", "can you draw {}?"),
    ),
    Language(
        NUMERALS,
        ("{}", "a {}", "the digit {}", "number {}", "a picture of the digit {}", "draw a {}"),
        ("a sketch of a {}", "show me the number {}", "can you draw {}?"),
    ),
    Language(
        ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
        ("{}", "die Ziffer {}", "die Zahl {}", "zeichne {}", "bitte eine {}", "Bild einer {}"),
        ("male mir eine {}", "ich möchte {} sehen"),
    ),
    Language(
        ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
        ("{}", "le chiffre {}", "dessine {}", "le nombre {}", "{} à la main"),
        ("écris {}",),
    ),
    Language(
        ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
        ("{}", "el número {}", "la cifra {}", "dibuja {}", "{} a mano"),
        ("escribe {}",),
    ),
    Language(
        ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove"),
        ("{}", "il numero {}", "la cifra {}", "disegna {}"),
        ("scrivi {}",),
    ),
    Language(
        tuple("零一二三四五六七八九"),
        ("{}", "数字{}", "手写的{}", "画{}", "{}的图片"),
        ("请写{}",),
    ),
    Language(tuple("٠١٢٣٤٥٦٧٨٩"), ("{}", "رقم {}", "الرقم {}")),
    Language(tuple("०१२३४५६७८९"), ("{}", "अंक {}")),
)
ANY = (
    "a digit", "a handwritten digit", "any number", "draw something", "surprise me", "a picture",
    "eine Ziffer", "una cifra", "数字", "a random digit", "handwriting",
)  # fmt: skip
"""Prompts that name no digit."""
FILLERS = (
    "my", "nice", "big", "small", "black", "white", "thin", "bold", "old", "new", "for", "me",
    "now", "good", "very", "clean", "please", "the", "my own", "with", "ink", "in", "of", "like",
    "tiny",
)  # fmt: skip
"""Words around a name that mean nothing, so that it is the name alone that is learned."""
NO_DIGIT, FILLED, UNKNOWN_WORD = 0.06, 0.35, 0.5
"""Shares: prompts without a digit, those with fillers, fillers that are letters by chance."""


def encode(prompts: Sequence[str]) -> Tensor:
    """The bytes of prompts, ``(N, 32)``, int64, 0 behind their ends.

    Raises:
        UserError: a prompt is empty, too long, or holds what is no text.
    """
    return torch.tensor([encoded(prompt) for prompt in prompts], dtype=torch.int64).view(-1, PROMPT)


def encoded(prompt: str) -> list[int]:
    """The bytes of one prompt, padded with 0."""
    if not prompt.strip():
        raise UserError("the prompt is empty", hint='ask for a digit: "a handwritten seven"')
    try:
        data = prompt.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the prompt {prompt!r} is no valid text: {error.reason}", hint="write it in UTF-8"
        ) from error
    if 0 in data:
        raise UserError(
            f"the prompt {prompt!r} holds a zero byte", hint="zero marks the end of a prompt"
        )
    if len(data) > PROMPT:
        raise UserError(
            f"the prompt {prompt!r} is {len(data)} bytes long, and {PROMPT} are the most",
            hint='say it shorter: "a handwritten seven"',
        )
    return [*data, *[0] * (PROMPT - len(data))]


def decode(row: Tensor) -> str:
    """The prompt that :func:`encode` made a row ``(32,)`` of."""
    return bytes(row.tolist()).rstrip(b"\0").decode()


def draw(digits: Sequence[int], seed: int) -> list[str]:
    """A prompt to train with for each of ``digits``, or one that names none."""
    chance = random.Random(seed)  # noqa: S311  no secret
    return [one(digit, chance) for digit in digits]


def one(digit: int, chance: random.Random) -> str:
    """A prompt for one digit that fits into 32 bytes."""
    while True:
        prompt = worded(digit, chance)
        if len(prompt.encode()) <= PROMPT:
            return prompt


def worded(digit: int, chance: random.Random) -> str:
    """A prompt of any length."""
    if chance.random() < NO_DIGIT:
        return chance.choice(ANY) if chance.random() < 0.5 else filler(chance)
    # A third in English, where most wordings are; the rest in all languages alike.
    language = LANGUAGES[0] if chance.random() < 0.25 else chance.choice(LANGUAGES)
    prompt = chance.choice(language.wordings).format(language.names[digit])
    if chance.random() < FILLED:
        before = " ".join(filler(chance) for _ in range(chance.randrange(3)))
        after = " ".join(filler(chance) for _ in range(chance.randrange(3)))
        prompt = f"{before} {prompt} {after}".strip()
    return cased(prompt, chance)


def filler(chance: random.Random) -> str:
    """A word that names no digit."""
    if chance.random() > UNKNOWN_WORD:
        return chance.choice(FILLERS)
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz?!.,", k=chance.randint(1, 7)))


def cased(prompt: str, chance: random.Random) -> str:
    """Mostly as it is, at times with a capital, or in capitals."""
    draw = chance.random()
    if draw < 0.15:
        return prompt[:1].upper() + prompt[1:]
    return prompt.upper() if draw < 0.25 else prompt


def usual(digit: int) -> list[str]:
    """Every wording that training draws from for ``digit``, without fillers, that fits."""
    return fitting(digit, [language.wordings for language in LANGUAGES])


def held_apart(digit: int) -> list[str]:
    """Every wording for ``digit`` that training never sees."""
    return fitting(digit, [language.held_apart for language in LANGUAGES])


def fitting(digit: int, wordings: Sequence[tuple[str, ...]]) -> list[str]:
    """The wordings of each language with its name of ``digit``, those of 32 bytes at most."""
    whole = [
        wording.format(language.names[digit])
        for language, own in zip(LANGUAGES, wordings, strict=True)
        for wording in own
    ]
    return [prompt for prompt in whole if len(prompt.encode()) <= PROMPT]


def balanced(count: int, kind: str = "usual") -> tuple[list[str], Tensor]:
    """``count`` prompts to judge by, over all ten digits alike, and what they ask for.

    Args:
        count: how many.
        kind: ``usual`` wordings, or those ``held apart``.

    Returns:
        The prompts, and the digits ``(count,)``, int64.
    """
    choose = usual if kind == "usual" else held_apart
    known = [choose(digit) for digit in range(10)]
    prompts = [known[i % 10][i // 10 % len(known[i % 10])] for i in range(count)]
    return prompts, torch.arange(count) % 10
