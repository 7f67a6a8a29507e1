"""Ranks as processes: their group, GPUs, watchdog, and the parent process that they end with."""
