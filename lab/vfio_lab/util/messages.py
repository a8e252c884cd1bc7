"""What the library logs, shown where its progress is."""

from __future__ import annotations

import logging

LIBRARY = "vfio_lab"


class LogHandler(logging.Handler):
    """Shows records as lines that stay, above the steps."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        from rich.text import Text  # noqa: PLC0415 - commands that have nothing to say start faster

        from vfio_lab.util import progress  # noqa: PLC0415 - the same

        progress.display().say(Text(self.format(record)))


def show_log() -> None:
    """Show what the library logs, from INFO on."""
    logger = logging.getLogger(LIBRARY)
    logger.setLevel(logging.INFO)
    if not any(isinstance(one, LogHandler) for one in logger.handlers):
        logger.addHandler(LogHandler())
