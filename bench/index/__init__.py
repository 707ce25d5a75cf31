"""How the filter index scales: workloads of filters and messages, against the linear scan."""
