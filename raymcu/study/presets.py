"""The search spaces that come with raymcu, which `raymcu init` copies."""

from importlib.resources import files
from pathlib import Path

from raymcu.errors import ConfigError, unknown_name


def shipped() -> dict[str, Path]:
    """Return the files by their names: within the package in a wheel, beside it in a checkout."""
    package = Path(str(files("raymcu")))
    places = (package / "search_spaces", package.parent / "search_spaces")
    return {path.stem: path for folder in places for path in sorted(folder.glob("*.toml"))}


def first_sentence(path: Path) -> str:
    """Return the first sentence of the comment that a file begins with."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):  # a key, or a command to type
            break
        words += line[2:].split()
    end = next((n for n, word in enumerate(words, 1) if word.endswith(".")), len(words))
    return " ".join(words[:end]).rstrip(".:")


def copy(name: str, to: Path | None = None) -> Path:
    """Copy a shipped search space to a file that is not there yet, by default NAME.toml here.

    Raises:
        ConfigError: If there is no such search space, or the file is there or cannot be written.
    """
    known, name = shipped(), name.removesuffix(".toml")
    if name not in known:
        raise ConfigError(unknown_name("shipped search space", name, list(known)))
    to = to or Path(f"{name}.toml")
    try:
        with to.open("xb") as file:
            file.write(known[name].read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{to}: cannot be written ({error.strerror}). Give a new file with --to."
        ) from error
    return to
