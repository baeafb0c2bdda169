"""A chat backend in the small: FastAPI, SQLAlchemy, and MCP servers of its admins. docs/integration.md tells its story.

database  the application's own tables, beside which the service has its own
deps      who calls, and what a route is given
schemas   what goes over the wire
routes    mcp: configurations and servers; chat: the loop of language model and tools
model     stands in for a language model
users     the command that adds one
"""
