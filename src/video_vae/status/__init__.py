"""Where a workflow stands, from its files alone: results, logs and Snakemake's own log. Imports nothing heavy."""
