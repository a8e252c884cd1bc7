"""Nothing of this project's runs without the plugin that `make setup` installs."""

import importlib.util
import sys

if importlib.util.find_spec("vfio_lab_pytest") is None:
    print(  # noqa: T201 - an exception here would be told as a traceback
        "ERROR: this pytest has no plugin vfio-lab: run `make setup`, then .venv/bin/pytest",
        file=sys.stderr,
    )
    sys.exit(2)
