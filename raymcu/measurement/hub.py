"""Uploads an exported model to the Hugging Face hub, as whoever is logged in there."""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from raymcu.errors import ConfigError, RaymcuError


def check_push(name: str) -> None:
    """See to it that a model can be uploaded under a name, before anything is written.

    Args:
        name: ``OWNER/NAME``.

    Raises:
        ConfigError: If it is no such name, is taken, nobody is logged in, or the hub cannot be
            asked.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push {name}: is no name of a model ({error}).") from error
    if name.count("/") != 1:
        raise ConfigError(f"--push {name}: must be OWNER/NAME, e.g. my-lab/npo-seed0.")
    if get_token() is None:
        raise ConfigError(
            f"--push {name}: nobody is logged in to the hub. Run `hf auth login`, or set HF_TOKEN."
        )
    try:
        is_taken = HfApi().repo_exists(name)
    except Exception as error:
        raise ConfigError(f"--push {name}: the hub cannot be asked ({_told(error)}).") from error
    if is_taken:
        raise ConfigError(f"--push {name}: is there already. Give another name.")


def push(folder: Path, name: str, *, is_public: bool) -> None:
    """Upload a folder as a new model.

    Raises:
        RaymcuError: If the hub does not take it; the folder stays.
    """
    try:
        HfApi().create_repo(name, private=not is_public)
        HfApi().upload_folder(repo_id=name, folder_path=folder, commit_message="Export by raymcu")
    except Exception as error:
        raise RaymcuError(
            f"--push {name}: the hub did not take it ({_told(error)}). The model is in {folder}: "
            f"`hf upload {name} {folder}` tries again."
        ) from error


def _told(error: Exception) -> str:
    """Return an error in a line, without the token whatever the hub may echo."""
    text = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0].rstrip(".")
    token = get_token()
    return text.replace(token, "…") if token else text
