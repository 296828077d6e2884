"""`python -m facequarry.datasets.synthetic` writes a set of synthetic photos."""

from facequarry.datasets.synthetic.command import main

raise SystemExit(main())
