"""``doogie-images``: an operator's command, outside of the proxy, that makes images of npm and PyPI packages.

words       what is typed: a package, or a published command line                              pure
request     what is asked for: the package, and what its server needs to run                   pure
build       lock, install, image, smoke test, name; on recipes/, which compose.yaml builds too
lock        what a lock file pins, and what another one changes                                pure
executable  which program of the package is the server                                         pure
answers     what npm, uv and BuildKit said, as a sentence                                      pure
smoke       the server under the proxy's walls answers initialize and tools/list
naming      the image's name, the rule's name                                                  pure
rule        the narrowest policy rule                                                          pure
report      what is printed; catalogue_file: the entry put into a file
images      what was built, by its labels; update: what would change
docker      the docker command; container: what is removed again
cli         the command

It drives Docker as whoever runs it: nothing of it belongs into the proxy's or the chat side's image.
"""
