"""Files that the library reads besides its code: images, scenarios, mutants, configuration.

In a checkout they are at the top level; a wheel contains them inside the package.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CONFIGURATION = "pyproject.toml"


def root() -> Path:
    """Return the folder that holds `scenarios`, `images` and pytest's configuration."""
    return PACKAGE if (PACKAGE / CONFIGURATION).exists() else PACKAGE.parents[1]
