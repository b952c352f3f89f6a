"""A beacon waits for its batch, which is sent to Redis, or written to the disk while Redis is away."""
