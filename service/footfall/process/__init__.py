"""How Footfall is started, wired, replaced and stopped."""
