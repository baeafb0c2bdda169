"""Configuration files of other MCP hosts, in and out. Pure; extra ``[service]``.

    text ── read_document ──► HostEntry …     what each server's file says, placeholders found, nothing filled in
    HostEntry, Answers ── plan ──► Plan       the command and request it would be, or all reasons, and a rule for it
    ConfigRecord … ── export ──► documents    for desktop hosts, through ``doogie stdio``; or to import elsewhere

Saving is ``doogie_client.service.importing``. Nothing here runs, fetches or looks anything up: not in this process's
environment, and not on its disk.
"""
