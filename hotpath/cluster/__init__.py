"""Several nodes as one service: who owns what, and what nodes ask each other."""
