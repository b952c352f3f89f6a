"""The fault matrix: every fault that Footfall promises to survive, on real processes, checked by equality."""
