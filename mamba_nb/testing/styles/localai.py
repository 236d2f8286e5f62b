"""localai: its shapes are to come."""

from __future__ import annotations

from mamba_nb.testing.styles.base import Style

STYLE = Style(name="localai", owned_by="localai")
