"""`python -m facequarry.jobs` is the same command as `facequarry`."""

import sys

from facequarry.jobs.cli import main

sys.exit(main())
