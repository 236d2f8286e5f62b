"""A server that is nobody in particular: OpenAI's shapes, an open `/health`, nothing else."""

from __future__ import annotations

from mamba_nb.testing.styles.base import Style

STYLE = Style(name="plain", owned_by="scripted")
