"""The networks of the papers, as torch modules. Needed for training and export only; running needs no torch."""
