"""`python -m mamba_nb`: the command line."""

from __future__ import annotations

from mamba_nb.cli import main

if __name__ == "__main__":
    main()
