"""Pixels: ranges, colours, registration, plain fusions, drawing. Needs no model."""
