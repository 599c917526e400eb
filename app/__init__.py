"""The command line, the service, and what works on runs."""

import structlog

# Until app.logs says otherwise logs go the way of the standard library, which keeps ordinary progress to itself.
structlog.stdlib.recreate_defaults(log_level=None)
