"""The ``irvf`` command."""
