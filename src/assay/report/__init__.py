"""Self-contained HTML pages: text escaped, plots inline, nothing fetched, no script. Free of torch."""
