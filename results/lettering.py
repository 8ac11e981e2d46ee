"""
Letters that stand in pixels: what can be drawn is drawn, and what cannot is never a box or a question mark.

The one font that is always there knows Latin letters. Text in another script is left to the viewer, which has
the header and the fonts of its users; in its place stands where to look.
"""

import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from results.words import plain

#: Stands for text that nothing here can draw.
ELSEWHERE = "(see the header)"


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font that Pillow carries, `size` pixels high."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)  # Pillow was built with FreeType, as its wheels are.
    return found


def drawable(text: str) -> str:
    """`text` in ASCII, accents dropped; `ELSEWHERE` where that would lose a letter."""
    letters = plain(text.replace("?", " "))
    if "?" in letters or _loses(text):
        return ELSEWHERE
    return plain(text)


def _loses(text: str) -> bool:
    """Whether a letter has nothing in ASCII to stand for it: kana, hangul, Arabic, Cyrillic …"""
    return any(
        unicodedata.category(c).startswith("L") and plain(c) in ("", "?")
        for c in unicodedata.normalize("NFC", text)
    )


@lru_cache(maxsize=1024)
def label(text: str, size: int, colour: tuple[int, int, int], longest: int) -> NDArray[np.uint8]:
    """`text` on black as (row, column, 3), at most `longest` pixels wide: then it ends in dots.

    The array is shared: it is not to be changed.
    """
    face, text = font(size), shortened(text, size, longest)
    width = max(int(np.ceil(face.getlength(text))), 1)
    image = Image.new("RGB", (min(width, max(longest, 1)), line_height(size)))
    ImageDraw.Draw(image).text((0, 0), text, colour, font=face)
    drawn = np.asarray(image)
    drawn.setflags(write=False)
    return drawn


def shortened(text: str, size: int, longest: int) -> str:
    """`text`, at most `longest` pixels wide: then it ends in dots."""
    face = font(size)
    while text and face.getlength(text) > longest:
        text = text.removesuffix("...")[:-1].rstrip() + ("..." if len(text) > 4 else "")
    return text


def line_height(size: int) -> int:
    """Pixels from one line to the next."""
    return round(size * 1.35)


def wrapped(text: str, size: int, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels; a word that is longer is cut."""
    face, lines, line = font(size), [], ""
    for whole in text.split():
        word = whole
        while word:
            longer = f"{line} {word}".strip()
            if face.getlength(longer) <= width:
                line, word = longer, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                fitting = len(word) - 1
                while fitting > 1 and face.getlength(word[:fitting]) > width:
                    fitting -= 1
                lines.append(word[:fitting])
                word = word[fitting:]
    return [*lines, line] if line else lines
