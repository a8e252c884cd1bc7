"""A workaround for a bug of CPython before 3.13: `ast.parse` in two threads at once.

All threads share one recursion depth counter. If a garbage collection during `ast.parse` runs a
finalizer, another thread may be scheduled and parse as well (3.11 does so for the carets of a
traceback). The first thread then raises `SystemError: AST constructor recursion depth mismatch`.

Source: CPython issue gh-106905; Python/Python-ast.c, PyAST_mod2obj().
"""

from __future__ import annotations

import ast
import functools
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

FIXED_IN = (3, 13)
_lock = threading.RLock()


def guard_parsing() -> None:
    """Make `ast.parse` run in one thread at a time, without garbage collection; idempotent."""
    if sys.version_info < FIXED_IN and not hasattr(ast.parse, "__wrapped__"):
        ast.parse = _guarded(ast.parse)


def _guarded(parse: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(parse)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            collecting = gc.isenabled()
            gc.disable()
            try:
                return parse(*args, **kwargs)
            finally:
                if collecting:
                    gc.enable()

    return alone
