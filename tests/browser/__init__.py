"""What a visitor's browser does: real Chromium, pages of another origin, a real Footfall."""
