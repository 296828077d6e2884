"""One refresh after the other: what is embedded and mined, by whom, and how it is published."""
