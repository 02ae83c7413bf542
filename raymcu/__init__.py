"""raymcu: a distributed sweep engine for machine-unlearning research.

The public API, imported on first use so that `import raymcu` loads neither torch nor Ray.

A search space is read, checked whole, and planned:

    >>> import raymcu
    >>> space = raymcu.load_space("search_spaces/demo.toml", ["curves.num_points=5"])
    >>> plan = raymcu.plan_study(space)
    >>> plan.summary["trainings"]["unique"], plan.summary["points"]
    (27, 88)

It is run into a folder. What is there is not done again, so this is how a run is gone on with, too:

    >>> space = raymcu.load_space("runs/demo/search_space.toml")
    >>> ledger = raymcu.run_study(space, "runs/demo", is_quiet=True)
    >>> ledger.failures().num_rows
    0

A search proposes trials, and trains what they need and no store has. Here it mixes models that were
trained before:

    >>> choices = 'method={choice=["grad_diff", "npo"]}, mixing={float=[0.5, 1.0]}'
    >>> asked = [f"search={{trials=1, space={{{choices}}}}}", 'benchmark.forget_sizes=["forget10"]']
    >>> asked += ["unlearning.settings=[]", 'store="runs/demo/checkpoints"']
    >>> space = raymcu.load_space("runs/demo/search_space.toml", asked)
    >>> ledger = raymcu.search_study(space, "runs/search", is_quiet=True)

What came out is read as Arrow tables, which pandas, Polars and DuckDB take as they are:

    >>> trials = raymcu.open_study("runs/search").table("trials")
    >>> trials["state"].to_pylist()
    ['complete']
    >>> frame = raymcu.open_study("runs/demo").scores().to_pandas()
    >>> bool(frame["model_utility"].between(0, 1).all())
    True

Registries hold the components there are, and a component of your own enters by their decorator:

    >>> "npo" in raymcu.METHODS, raymcu.METHODS.entry("npo").source
    (True, 'Zhang et al. 2024, arXiv:2404.05868, eq. 3')
    >>> from raymcu.metrics import Measured, Score
    >>> @raymcu.metric(
    ...     "shortest", better="neither", unit="tokens", span=(0, 1e6), probes=("forget",),
    ...     source="this example",
    ... )
    ... def shortest(point: Measured) -> Score:
    ...     "The shortest forget answer."
    ...     return Score(float(point.rows("forget").num_tokens.min()), len(point.rows("forget")))
    >>> raymcu.METRICS["shortest"].unit
    'tokens'

What is wrong with an input is one `ConfigError`, a damaged file a `StoreError`; both are
`RaymcuError`:

    >>> raymcu.load_space("search_spaces/demo.toml", ["curves.num_point=5"])
    Traceback (most recent call last):
    raymcu.errors.ConfigError: ...curves.num_point: there is no such key. Did you mean ...
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors; at run time each comes when it is first used
    from raymcu.benchmarks import BENCHMARKS as BENCHMARKS
    from raymcu.curricula import CURRICULA as CURRICULA
    from raymcu.curves import CURVES as CURVES
    from raymcu.curves import WALKS as WALKS
    from raymcu.errors import ConfigError as ConfigError
    from raymcu.errors import RaymcuError as RaymcuError
    from raymcu.errors import StoreError as StoreError
    from raymcu.masks import MASKS as MASKS
    from raymcu.measurement.export import export as export
    from raymcu.methods import METHODS as METHODS
    from raymcu.metrics import METRICS as METRICS
    from raymcu.metrics import metric as metric
    from raymcu.pipeline import run_study as run_study
    from raymcu.pipeline import search_study as search_study
    from raymcu.planning.surroundings import load_space as load_space
    from raymcu.planning.surroundings import plan_study as plan_study
    from raymcu.report.reading import open_study as open_study

__version__ = "0.1.0"

# Ray reads these when it is first imported, which may be before raymcu.session is. A variable
# that is set already wins: they are defaults.
for _name, _value in {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning OpenMP threads starve the other workers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # what asked for no GPU sees none
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's new reporter prints at any verbosity
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune swallows the first Ctrl-C, and calls it a failure
}.items():
    os.environ.setdefault(_name, _value)

_API = {
    "load_space": "raymcu.planning.surroundings",
    "plan_study": "raymcu.planning.surroundings",
    "run_study": "raymcu.pipeline",
    "search_study": "raymcu.pipeline",
    "open_study": "raymcu.report.reading",
    "export": "raymcu.measurement.export",
    "BENCHMARKS": "raymcu.benchmarks",
    "METHODS": "raymcu.methods",
    "MASKS": "raymcu.masks",
    "CURRICULA": "raymcu.curricula",
    "CURVES": "raymcu.curves",
    "WALKS": "raymcu.curves",
    "METRICS": "raymcu.metrics",
    "metric": "raymcu.metrics",
    "RaymcuError": "raymcu.errors",
    "ConfigError": "raymcu.errors",
    "StoreError": "raymcu.errors",
}
"""What a notebook needs, by the module it is from."""

__all__ = sorted(_API)


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'raymcu' has no attribute '{name}'")
    return getattr(importlib.import_module(_API[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
