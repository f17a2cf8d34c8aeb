"""Inference on whole volumes beside the model alone."""
