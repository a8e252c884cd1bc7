"""The report's templates and the filters that they use."""

from __future__ import annotations

import functools
import re
import time

import jinja2

from vfio_lab.report.tolerant import printable


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("vfio_lab.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "moment": moment,
        "duration": rough_duration,
        "slug": plain,
        "printable": printable,
    }
    return made


def moment(at: float) -> str:
    """Return a time as text: date, hours and minutes, UTC.

    Args:
        at: the time, in seconds since the epoch.
    """
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def rough_duration(seconds: float) -> str:
    """Return a rounded duration as text."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plain(name: str) -> str:
    """Return a kernel's name in a form that is valid in a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)


def render(template: str, **values: object) -> str:
    """Return a template of `lab/vfio_lab/report/templates/`, rendered with `values`, escaped."""
    return _environment().get_template(template).render(values)


def text(name: str) -> str:
    """Return the content of a file of `lab/vfio_lab/report/templates/`."""
    environment = _environment()
    loader = environment.loader
    if loader is None:
        raise AssertionError("the environment is made with a loader")
    return loader.get_source(environment, name)[0]
