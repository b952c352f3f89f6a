"""The days of Redis are merged into Postgres, and back into a Redis that lost them."""
