"""A beacon comes in: who sent it, whose page it is, and whether it counts."""
