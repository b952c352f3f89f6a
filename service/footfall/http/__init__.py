"""Routes and listeners: translates between HTTP and the program."""
