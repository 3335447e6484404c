"""Which state directory a command is about. Nothing is made: what is not there is not looked into."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from otel_genapp.config import ENVIRONMENT, ENVS, state_home
from otel_genapp.errors import ConfigError
from otel_genapp.state_directory import StateDirectory, directory_name

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom a command is about, by its options and the environment; empty where nobody said."""

    app: str = ""
    env: str = ""
    state_dir: str = ""

    @classmethod
    def read(cls, given: argparse.Namespace, environ: Mapping[str, str]) -> Wanted:
        """What was said.

        Raises:
            ConfigError: there is no such environment.
        """
        app = given.app or environ.get(ENVIRONMENT["app"], "").strip()
        env = given.env or environ.get(ENVIRONMENT["env"], "").strip()
        if env and env not in ENVS:
            raise ConfigError(f"env must be one of {', '.join(ENVS)}, got {env!r}")
        return cls(app, env, environ.get(ENVIRONMENT["state_dir"], "").strip())

    @property
    def bases(self) -> tuple[Path, ...]:
        """Where state directories may be."""
        return (Path(self.state_dir).expanduser(),) if self.state_dir else state_home()

    def fits(self, name: str) -> bool:
        """Whether a state directory of this name may be the one that is meant."""
        start, _, env = name.rpartition("-")
        if env not in ENVS or not start or (self.env and env != self.env):
            return False
        return not self.app or name == directory_name(self.app, env)


def add_app_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which application a command is about."""
    parser.add_argument("--app", default="", help=f"name of the application (default: {ENVIRONMENT['app']})")
    parser.add_argument("--env", default="", help=f"dev, preprod or prod (default: {ENVIRONMENT['env']})")


def state_directories(bases: tuple[Path, ...]) -> Iterator[Path]:
    """The state directories of all applications, as far as they can be seen."""
    for base in bases:
        try:
            paths = sorted(base.iterdir())
        except OSError:
            continue
        for path in paths:
            if path.name.rpartition("-")[2] in ENVS and (path.is_dir() or path.is_symlink()):
                yield path.absolute()


def find_state_directory(wanted: Wanted) -> StateDirectory:
    """The one state directory that is meant, checked.

    Raises:
        ConfigError: there is none, more than one, or it is not safe to use.
    """
    known = list(state_directories(wanted.bases))
    fitting = [path for path in known if wanted.fits(path.name)]
    # The same name in a later base is a place that was used while the first could not be.
    fitting = list({path.name: path for path in reversed(fitting)}.values())[::-1]
    if len(fitting) != 1:
        raise ConfigError(_not_one(wanted, fitting or known, is_none=not fitting))
    state = StateDirectory(fitting[0])
    state.names("journal")
    if state.problem:
        raise ConfigError(f"{state.problem} (or run this as the user whose application it is)")
    return state


def _not_one(wanted: Wanted, there: list[Path], *, is_none: bool) -> str:
    whose = " ".join(filter(None, (wanted.app, wanted.env)))
    places = " or ".join(str(base) for base in wanted.bases)
    if is_none:
        said = f"no state directory{f' of {whose}' if whose else ''} in {places}"
    else:
        said = f"{len(there)} state directories{f' of {whose}' if whose else ''} in {places}"
    names = ", ".join(path.name for path in there[:_LISTED]) + (", …" if len(there) > _LISTED else "")
    listed = f"; there {'is' if len(there) == 1 else 'are'} {names} (named APP-ENV)" if there else ""
    return f"{said}{listed}; choose with --app and --env, or use --store or --url"
