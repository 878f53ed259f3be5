"""Puts the tests' own modules where all of them find them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
