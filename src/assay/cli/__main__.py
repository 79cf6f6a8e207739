"""``python -m assay.cli``: the command line without the console script."""

from assay.cli.main import main

main()
