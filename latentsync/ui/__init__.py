"""A page in the browser for lip sync: upload, watch, compare, download."""
