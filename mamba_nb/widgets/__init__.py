"""Widgets: pickers, live panels, votes, chat. Names load on first use, since ipywidgets takes its time."""
