"""Calibration of a thermal and an RGB camera from a recording of a target that both see."""
