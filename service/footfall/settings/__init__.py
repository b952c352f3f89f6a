"""The settings: read from file and environment, checked once, every problem as a sentence."""
