"""How is it run without its script? ``python -m regiondrift``."""

from regiondrift.cli import main

raise SystemExit(main())
