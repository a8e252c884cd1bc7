"""Git checkouts that tests make and change."""

import subprocess

from vfio_lab.util.process import environment


def change(tree, *words):
    """Run git in a tree, with the rights of the test."""
    command = ["git", "-C", tree, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    return done.stdout
