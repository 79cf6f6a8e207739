"""Models that can only be asked: behind an address, or in a process of their own."""
