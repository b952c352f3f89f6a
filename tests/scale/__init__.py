"""`make scale`: what so many views a day take, from costs that are measured here, and what breaks first."""
