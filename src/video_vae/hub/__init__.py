"""Models that come from others or go to them: import, export, model card, fetched weights."""
