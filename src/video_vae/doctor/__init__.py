"""What this machine has and lacks for the workflow, and for a config: one check per line, with what to do."""
