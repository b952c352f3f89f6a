"""The tests of Footfall; everything they talk to they have started."""
