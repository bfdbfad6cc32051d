"""Whether a password is among the first a guesser would try.

Guessers do not work through a list; they build: a word, perhaps a second one, a year, a run of keys, an
exclamation mark. A list of finished passwords is therefore always too short. This module takes a
password apart the same way and counts the pieces: a common word, or one that belongs to the person
(login, name), weighs two, a run of keys or numbers, a repeated character, a year or a date weighs one,
and so does each character that fits nothing. The lightest reading counts. Whatever weighs no more than
four falls in the first few million guesses and is refused.

There are no composition rules: `Password1!` is refused and four unrelated words are fine.

The words are in `common_passwords.txt`. Letter case, full-width forms and the usual disguises (0 for o,
@ for a) do not help a word to hide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_WEIGHT_REFUSED_MAX: Final = 4
_LENGTH_JUDGED_MAX: Final = 128  # longer ones are not guessed early, and judging them holds up the loop
_WORD_WEIGHT: Final = 2
_RUN_LENGTH_MIN: Final = 3
_RUN_LENGTH_MAX: Final = 26
_PERSONAL_LENGTH_MIN: Final = 3

#: Digits and signs that stand for letters.
_DISGUISES: Final = {
    "0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s", "!": "i",
}  # fmt: skip

#: Lines a finger or a child's counting follows, read in both directions.
_TRACKS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    *("01234567890", "13579", "02468", "147", "258", "369", "159", "357"),
    *("1234567890-=", "qwertyuiop[]\\", "asdfghjkl;'", "zxcvbnm,./"),
    *("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "8ik,", "9ol.", "0p;/"),
    *("!@#$%^&*()_+", "!qaz", "@wsx", "#edc", "$rfv", "%tgb", "^yhn", "&ujm"),
    *("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),
)
_RUNS: Final = frozenset(
    track[start:end]
    for line in _TRACKS
    for track in (line, line[::-1])
    for start in range(len(track))
    for end in range(start + _RUN_LENGTH_MIN, len(track) + 1)
)

_MONTH_DAY: Final = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_DATES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:19[3-9]|20[0-4])\d",  # a year
        rf"(?:19|20)?\d\d{_MONTH_DAY}",  # year, month, day
        r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])(?:19|20)?\d\d",  # day, month, year
        rf"{_MONTH_DAY}(?:19|20)\d\d",  # month, day, year
    )
)

_Trie = dict[str, "_Trie"]
_END: Final = ""


def _trie(words: Iterable[str]) -> _Trie:
    root: _Trie = {}
    for word in words:
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[_END] = {}
    return root


def common_words() -> list[str]:
    """The words of `common_passwords.txt`."""
    lines = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


_COMMON: Final = _trie(common_words())


def is_common(password: str, personal: Iterable[str] = ()) -> bool:
    """Whether a guesser would come to this password early.

    `personal` is what a guesser knows of the person: address, number, name.
    """
    text = _plain(password)
    if text[::2] in _RUNS and text[1::2] in _RUNS:  # 1q2w3e4r, a1b2c3d4
        return True
    readings = [(text, 0), (_repeated_block(text), 1)]  # saying it again is one more piece
    return any(
        added + _weight(reading, personal) <= _WEIGHT_REFUSED_MAX
        for reading, added in readings
        if len(reading) <= _LENGTH_JUDGED_MAX
    )


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _repeated_block(text: str) -> str:
    """The shortest piece the text is a repetition of."""
    return text[: (text + text).index(text, 1)] if text else text


def _weight(text: str, personal: Iterable[str]) -> int:
    """The weight of the lightest reading of a text."""
    tries = (_COMMON, _trie(_personal_words(personal)))
    lightest = list(range(len(text) + 1))
    for start in range(len(text)):
        here = lightest[start]
        lightest[start + 1] = min(lightest[start + 1], here + 1)
        for end in _patterns(text, start):
            lightest[end] = min(lightest[end], here + 1)
        for trie in tries:
            for end in _words(text, start, trie):
                lightest[end] = min(lightest[end], here + _WORD_WEIGHT)
    return lightest[-1]


def _personal_words(personal: Iterable[str]) -> Iterator[str]:
    for text in map(_plain, personal):
        for word in (text, text.partition("@")[0], *re.split(r"[\W_]+", text)):
            if len(word) >= _PERSONAL_LENGTH_MIN:
                yield word


def _patterns(text: str, start: int) -> Iterator[int]:
    """Where runs, repeats, years and dates that begin here end."""
    for end in range(start + _RUN_LENGTH_MIN, min(len(text), start + _RUN_LENGTH_MAX) + 1):
        piece = text[start:end]
        if piece not in _RUNS and piece != piece[0] * len(piece):
            break
        yield end
    for date in _DATES:
        match = date.match(text, start)
        if match:
            yield match.end()


def _words(text: str, start: int, trie: _Trie) -> Iterator[int]:
    """Where words that begin here end, disguises seen through."""
    level = [trie]
    for position in range(start, len(text)):
        character = text[position]
        readings = character + _DISGUISES.get(character, "")
        level = [node[reading] for node in level for reading in readings if reading in node]
        if not level:
            return
        if any(_END in node for node in level):
            yield position + 1
