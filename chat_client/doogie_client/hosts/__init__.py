"""Configuration files of other MCP hosts. Pure.

    text ── read_document ──► HostEntry …     what each server's file says, placeholders found, nothing filled in
    HostEntry, Answers ── plan ──► Plan       the command and request it would be, or all reasons, and a rule for it

``doogie_client.service.importing`` saves them, and ``exporting`` is the way back. Nothing here runs, fetches or looks
anything up: not in this process's environment, and not on its disk.
"""
