"""What tests of guests share beside the plugin's own fixtures."""

from support.interactive import at_a_terminal, run_that_keeps
from support.loaned_host import loaned_host
from support.tutorial import checkout, review_page, tutorial

__all__ = [
    "at_a_terminal",
    "checkout",
    "loaned_host",
    "review_page",
    "run_that_keeps",
    "tutorial",
]
