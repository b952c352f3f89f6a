"""What a beacon costs, measured against an empty request of the same framework in the same run."""
