"""What names the versions that a run's numbers depend on."""

import subprocess
import sys

from raymcu.store.versions import installed


def test_version_is_told_at_once():
    code = (
        "import sys\nfrom raymcu.cli import main\n"
        "sys.argv = ['raymcu', '--version']\n"
        "try:\n    main()\n"
        "finally:\n    assert not {'torch', 'ray', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = dict(line.split() for line in done.stdout.splitlines())
    assert told == installed()
    assert {"python", "raymcu", "torch", "transformers", "ray", "optuna", "pyarrow"} <= told.keys()
