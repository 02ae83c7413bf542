"""Optuna's database of a search, in its run folder."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna

from raymcu.planning.search_extension import check_extension
from raymcu.planning.trials import cells, search_identity
from raymcu.search.study import StudySearch
from raymcu.store.run_folder import RunFolder
from raymcu.study.loading import strictly
from raymcu.study.search_space import SearchSpace

DATABASE = "optuna.db"
_LOCK_S = 60
"""How long to wait for a reader of the database, such as optuna-dashboard."""


@contextmanager
def database(run: RunFolder) -> Iterator[tuple[Any, Any]]:
    """Open Optuna's database; yield it, and what copies it to where the run folder is.

    SQLite needs a local file. For a folder behind a URL that is a copy, kept up after each trial.
    """
    with tempfile.TemporaryDirectory(prefix="raymcu-optuna-") as cache:
        path = Path(run.path(DATABASE)) if run.is_local else Path(cache) / DATABASE
        path.parent.mkdir(parents=True, exist_ok=True)
        if not run.is_local and run.exists(DATABASE):
            path.write_bytes(run.read_bytes(DATABASE))
        options = {"connect_args": {"timeout": _LOCK_S}}
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=options)

        def keep() -> None:
            if not run.is_local:
                run.write_bytes(DATABASE, path.read_bytes())

        try:
            yield storage, keep
        finally:
            storage.remove_session()
            storage.engine.dispose()
            keep()


def adopt(run: RunFolder, space: SearchSpace, *, extend: bool) -> bool:
    """Give the studies of a folder to a search that adds cells to theirs.

    Returns:
        Whether it is another one than the folder's.

    Raises:
        ConfigError: If the folder's trials would have other numbers, or nobody gave leave.
    """
    if not run.exists("plan.json"):
        return False
    there = strictly(SearchSpace, run.plan["search_space"])
    if not check_extension(there, space, run.url, extend=extend):
        return False
    before, now = search_identity(there), search_identity(space)
    with database(run) as (storage, _):
        for study in storage.get_all_studies():
            if storage.get_study_user_attrs(study._study_id).get("search_space") == before:
                storage.set_study_user_attr(study._study_id, "search_space", now)
    return True


def open_studies(space: SearchSpace, storage: Any) -> list[StudySearch]:
    """Begin, or take up again, the study of each cell."""
    return [StudySearch(space, cell, storage) for cell in cells(space)]
