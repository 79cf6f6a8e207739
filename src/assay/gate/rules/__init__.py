"""Rules of a policy, one file each: ``rule(case) -> Finding``, a pure function. Free of torch."""

HELPERS: tuple[str, ...] = ()
