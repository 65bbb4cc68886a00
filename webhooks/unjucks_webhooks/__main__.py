"""``unjucks-webhooks``: see ``command``."""

import sys

from unjucks_webhooks.command import main

if __name__ == "__main__":
    sys.exit(main())
