"""Widgets: a picker, panels that stream, a table of profiles, votes, a chat.

Names load on first use, since ipywidgets takes its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_nb._lazy import lazily

if TYPE_CHECKING:
    from mamba_nb.widgets.chat import ChatView
    from mamba_nb.widgets.compare_view import CompareView
    from mamba_nb.widgets.picker import BackendPicker
    from mamba_nb.widgets.profile_table import ProfileTable
    from mamba_nb.widgets.vote import VoteView

__all__ = ["BackendPicker", "ChatView", "CompareView", "ProfileTable", "VoteView"]

_HOMES = {
    "BackendPicker": "picker",
    "ChatView": "chat",
    "CompareView": "compare_view",
    "ProfileTable": "profile_table",
    "VoteView": "vote",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
