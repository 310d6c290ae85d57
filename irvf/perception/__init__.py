"""What is found in the fused image."""
