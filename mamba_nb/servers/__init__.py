"""The kinds of model server: where each listens, how it is started, what it says of its state.

One file a kind; each offers a `KIND`, which is data and a few small functions. `failures` turns what goes
wrong on the way to a server into this package's errors.
"""

from mamba_nb.servers.kinds import Kind, kind_of, kinds

__all__ = ["Kind", "kind_of", "kinds"]
