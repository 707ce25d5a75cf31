"""Who may do what: tokens come in at an edge, `Principal` and `Grant` go further in."""
