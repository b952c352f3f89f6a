"""The numbers of each site, as pages show them."""
