"""How long a test waits for a fact that comes by itself: many times as long as a machine with nothing else to do needs.

Only a failure waits so long. A test fails by this limit where the fact never comes, and for no other reason.
"""

PATIENCE_S = 60
