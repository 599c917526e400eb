"""The service under stress: processes that are killed, and many who listen."""
