"""Pure rules: no I/O, no settings."""
