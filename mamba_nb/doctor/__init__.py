"""What runs here, what is wrong, and the command that mends it.

The package itself is callable: `mamba_nb.doctor()` is `mamba_nb.doctor.examine.doctor`, so that the verb and the room
can share their name however they were imported.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """A module that can be called."""

    @staticmethod
    def __call__(*args: Any, **kwargs: Any) -> Any:
        from mamba_nb.doctor.examine import doctor

        return doctor(*args, **kwargs)

    @property
    def __signature__(self) -> Any:
        import inspect

        from mamba_nb.doctor.examine import doctor

        return inspect.signature(doctor)


sys.modules[__name__].__class__ = _Verb
