"""What other counters and web servers wrote, read as days, pages and views of a site."""
