"""raymcu: a distributed sweep engine for machine-unlearning research.

The public API, imported on first use so that `raymcu --help` starts without torch or Ray.
"""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# Ray reads these when it is first imported, which may be before raymcu.session is. A variable
# that is set already wins: they are defaults.
for _name, _value in {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning OpenMP threads starve the other workers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's new reporter prints at any verbosity
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}.items():
    os.environ.setdefault(_name, _value)

_API = {
    "load_space": "raymcu.planning.surroundings",
    "plan_study": "raymcu.pipeline",
    "run_study": "raymcu.pipeline",
    "search_study": "raymcu.pipeline",
    "search_summary": "raymcu.planning.trials",
    "export": "raymcu.measurement.export",
    "catalog": "raymcu.report.catalog",
    "Judge": "raymcu.analysis.judge",
    "judge_run": "raymcu.analysis.judge",
    "rescore": "raymcu.report.again",
    "reanalyze": "raymcu.report.again",
    "write_report": "raymcu.report.page",
    "verify": "raymcu.report.again",
    "read_status": "raymcu.report.status",
    "render_status": "raymcu.report.status",
    "failures_table": "raymcu.report.status",
    "plan_table": "raymcu.report.console",
    "findings_table": "raymcu.report.console",
    "settings_table": "raymcu.report.console",
    "endpoints_table": "raymcu.report.console",
    "calibrations_table": "raymcu.report.console",
    "trials_table": "raymcu.report.search",
    "layers_table": "raymcu.report.console",
    "load_study": "raymcu.report.data",
    "serve": "raymcu.report.dashboard",
    "RunFolder": "raymcu.store.folders",
    "RaymcuError": "raymcu.errors",
    "ConfigError": "raymcu.errors",
    "StoreError": "raymcu.errors",
}

__all__ = sorted(_API)


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'raymcu' has no attribute '{name}'")
    return getattr(importlib.import_module(_API[name]), name)
