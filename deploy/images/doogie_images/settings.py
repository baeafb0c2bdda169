"""What images are built from, over and behind: the settings that ``compose.yaml`` takes, from the same places.

Each is an environment variable, or a line of ``.env`` in the working directory, as Compose reads it. Which engine
builds is docker's own business: ``DOCKER_HOST``, ``DOCKER_CONTEXT``.
"""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _readable(path: Path) -> Path:
    if not os.access(path, os.R_OK) or not path.is_file():
        raise ValueError(f"{path} is not a file that can be read: name a bundle of certificates in PEM form")
    if "," in str(path) or '"' in str(path):
        raise ValueError(f"{path}: docker cannot be given a path with a comma or a quote")
    return path


class BuildSettings(BaseSettings):
    """Settings of all builds; the defaults are those of ``compose.yaml``."""

    model_config = SettingsConfigDict(env_prefix="DOOGIE_", env_file=".env", extra="ignore", frozen=True)

    python_base: str = Field(default="python:3.13-slim", description="the image that PyPI servers are built on")
    node_base: str = Field(default="node:24-slim", description="the image that npm servers are built on")
    build_network: str = Field(default="default", description="of docker build: default, host or none")
    build_ca: Annotated[Path, AfterValidator(_readable)] | None = Field(
        default=None, description="certificate authorities that npm and PyPI clients trust instead of their own"
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, given: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in given.items() if value != ""}
