"""Support for tests that need a Python or a Jupyter kernel of their own."""
