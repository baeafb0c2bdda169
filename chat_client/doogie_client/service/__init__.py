"""What a chat backend calls: stored configurations, servers started from them, and their tools. Extra ``[service]``."""
