"""``python -m einsum_compiler.cli``."""

import sys

from einsum_compiler.cli import main

sys.exit(main())
