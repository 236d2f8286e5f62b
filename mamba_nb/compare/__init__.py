"""The same prompts to several models: plan, schedule, run.

The package itself is callable: `mamba_nb.compare(models, prompts)` is `mamba_nb.compare.verbs.compare`, so that the
verb and the room can share their name however they were imported.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """A module that can be called."""

    @staticmethod
    def __call__(*args: Any, **kwargs: Any) -> Any:
        from mamba_nb.compare.verbs import compare

        return compare(*args, **kwargs)

    @property
    def __signature__(self) -> Any:
        import inspect

        from mamba_nb.compare.verbs import compare

        return inspect.signature(compare)


sys.modules[__name__].__class__ = _Verb
