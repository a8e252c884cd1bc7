"""Containers without privileges: buildah, whose containers are chroots."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

BASE = "localhost/vfio-lab-test-base"
TOOLS = ("buildah", "mmdebstrap")
needs_containers = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
    reason=f"a container without privileges needs root and {' and '.join(TOOLS)}",
)


def call(*command, **more):
    return subprocess.run(
        command, check=True, capture_output=True, text=True, **more
    ).stdout.strip()


def pip_volumes():
    """Return the options that let pip in a container use the index that this host uses."""
    authorities = ssl.get_default_verify_paths().cafile
    given = [Path(os.environ.get("PIP_CERT", authorities or "")), Path("/etc/pip.conf")]
    return [f"--volume={path}:{path}:ro" for path in given if path.is_file()]
