"""The report: one HTML file that opens offline, made from the files that a run left behind."""
