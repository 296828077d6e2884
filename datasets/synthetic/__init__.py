"""Rendered people in the VGGFace2 layout, for the demo, the tests and the benchmarks.

Whoever needs photos imports this front; what draws them is behind it. Imports `disk` and `faces`.

    python -m facequarry.datasets.synthetic --out photos --identities 60 --photos 12 --hats 0.2
"""

from facequarry.datasets.synthetic.photo_options import PhotoOptions
from facequarry.datasets.synthetic.photo_set import photo_bytes, write_bad_photos, write_photos

__all__ = ["PhotoOptions", "photo_bytes", "write_bad_photos", "write_photos"]
