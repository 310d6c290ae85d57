"""How good a fusion and a detector are, on pairs that no training saw."""
