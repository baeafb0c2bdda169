"""What the Doogie proxy and its clients agree on. Pure: depends on pydantic only.

models    the JSON bodies
problems  the errors (RFC 9457)
channels  the stdio framing (``v5.channel.k8s.io``) and close codes
"""
