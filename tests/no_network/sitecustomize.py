"""Every Python whose PYTHONPATH names this folder imports this file when it starts."""
import refuse_network  # noqa: F401
