"""Entry point in the guest: `python3 -S -m agent PORT`, or `--stdio` behind an SSH channel."""

import gc
import os
import sys

from .router import Router

STDIN, STDOUT = 0, 1


def main(carrier: str) -> None:
    """Serve requests from the carrier until it closes."""
    gc.disable()  # a collection would touch, and so copy, every page of every user
    if carrier == "--stdio":
        incoming, outgoing = os.dup(STDIN), os.dup(STDOUT)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, STDIN)
        os.dup2(2, STDOUT)  # a stray print must not look like an answer
    else:
        incoming = outgoing = os.open(carrier, os.O_RDWR | os.O_CLOEXEC)
    Router(incoming, outgoing).serve()


main(sys.argv[1])
