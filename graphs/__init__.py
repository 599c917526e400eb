"""The state machine and those who play its agents."""

import os

# Read once, when LangGraph is imported; :mod:`graphs.checkpoints` refuses to open without it.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
