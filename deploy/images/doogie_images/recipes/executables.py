"""Which executables the distributions of a directory bring: {"distribution": {"executable": "file"}}.

Run by another Python than theirs, so that none of their code runs.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

directory = Path(sys.argv[1]).resolve()
bin_directory = directory.parents[2] / "bin"


def programs(distribution: importlib.metadata.Distribution) -> dict[str, str]:
    """Files that were installed into bin/."""
    located = (Path(str(distribution.locate_file(file))).resolve() for file in distribution.files or [])
    return {file.name: str(file) for file in located if file.parent == bin_directory}


found = importlib.metadata.distributions(path=[str(directory)])
print(json.dumps({distribution.metadata["Name"]: programs(distribution) for distribution in found}))
