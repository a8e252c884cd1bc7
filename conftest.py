"""Nothing of this project's runs without the plugin that `make setup` installs."""

import pytest


def pytest_configure(config):
    """End with the lab's own exit code where another environment's pytest was started."""
    if not config.pluginmanager.has_plugin("vfio-lab"):
        pytest.exit(
            "this pytest has no plugin vfio-lab: run `make setup`, then .venv/bin/pytest", 2
        )
