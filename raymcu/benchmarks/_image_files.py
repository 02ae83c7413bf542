"""Whether image files can be decoded, found out before a study starts."""

from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIXES = (*(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"), *(".tif", ".tiff", ".ppm", ".pgm"))
"""Of files in a folder that are taken for images."""
_DECODED = 64 * 2**20
"""Bytes of files that are decoded to the last pixel, which takes seconds; of those beyond it head
and end are looked at, and the rest when a batch is made of them."""
_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
"""How whole files end: most broken ones are cut short."""


def undecodable(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the files that are no whole images, each with the reason.

    The head of every file is read and its end compared with its format's; where that differs, or
    the format has none, and in the first 64 MiB, the file is decoded. So 50,000 photographs take
    seconds, and one that is damaged in its middle may be told only when a batch is made of it.
    """
    from PIL import Image  # not for who plans with other benchmarks

    left = _DECODED
    for path in paths:
        try:
            with Image.open(path) as opened:
                size = path.stat().st_size
                if left > 0 or not _is_whole(path, opened.format or ""):
                    left -= size
                    opened.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            yield path, str(error)


def _is_whole(path: Path, form: str) -> bool:
    end = _ENDS.get(form)
    if end is None:
        return False
    with path.open("rb") as content:
        content.seek(-len(end), 2)
        return content.read() == end
