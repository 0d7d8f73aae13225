"""`python -m vpipe_mask.server FD PARENT`; see `vpipe_mask.server.process`."""

import sys

from vpipe_mask.server.process import main

sys.exit(main())
