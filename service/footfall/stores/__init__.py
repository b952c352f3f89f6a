"""Redis with its scripts, Postgres, and the spool on the disk."""
