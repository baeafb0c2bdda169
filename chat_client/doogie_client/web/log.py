"""Logging of ``doogie-chat``: structlog, one event a line. Never tokens, values of environments, bodies."""

import logging
import os
import sys

import structlog


def _with_pid(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {**event, "pid": os.getpid()}  # workers write to one log


_SHARED: list[structlog.types.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _with_pid,
]


def formatter(format_: str) -> logging.Formatter:
    """What makes a line of an event: ``json`` for machines, ``console`` for people."""
    processors: list[structlog.types.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if format_ == "json":
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Not the default one for people: it prints the values of local variables, tokens and environments among them.
        plain = structlog.dev.plain_traceback
        # Every string as its repr, or a terminal would obey what a caller has put into it.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=plain, repr_native_str=True
        )
        processors.append(renderer)
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=processors)


def configure(level: str, format_: str) -> None:
    """Send every logger, the standard library's too, to stdout."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter(format_))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
