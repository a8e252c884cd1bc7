"""Evidence folders of commands."""

from __future__ import annotations

from pathlib import Path

import click


def new_evidence(kind: str) -> Path:
    """Create a folder for a new run's evidence, delete old evidence, and report it."""
    from vfio_lab.evidence import retention
    from vfio_lab.util.project import evidence_folder

    folder = evidence_folder()
    if deleted := retention.delete_old_runs(folder):
        click.echo(retention.deletions_text(deleted), err=True)
    return retention.new_run_folder(folder, kind)
