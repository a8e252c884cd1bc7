"""The executable specification of vfio: what the kernel answers to what users do.

A reader begins with `state` (what there is), then `administration`, `opening` and `using` (what is
done with it). A rule is a function of its step's name; it changes the state that it is given, and
raises `Denied` where the kernel refuses. `exploration.steps.take` gives it a copy, so that states
are values.
"""

from vfio_lab.model import administration, opening, using

__all__ = ["administration", "opening", "using"]
