"""A Valkey and a PostgreSQL of our own, for trials and tests."""
