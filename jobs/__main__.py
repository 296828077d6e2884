"""`python -m jobs` is the same command as `facequarry`."""

import sys

from jobs.cli import main

sys.exit(main())
