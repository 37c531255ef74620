"""From samples to bytes: rendered once when something changes, joined and compressed off the event loop."""
