"""Engines run an exported network; which one is configuration, the model folder is the same for all."""
