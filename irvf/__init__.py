"""Instruction-driven fusion of thermal and RGB images."""
