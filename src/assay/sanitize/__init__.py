"""Is it well formed and plausible? Expectations, and what expectations alone let through. Free of torch."""
