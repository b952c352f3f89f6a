"""Every metric, and one answer for all workers."""
