"""What an Agent is made of: its input, its model over a backend, its progress and result, and tools by prompt.

`mamba_nb.agent` is the room's door.
"""
