"""State machines of the domain: synchronous, without clock and without IO.

Time is an argument (`now_ms`, monotonic milliseconds); whoever waits asks for the next deadline.
"""
