"""Completes the environment of every Python process of ``.venv``; installed there, run at interpreter start.

The libraries of ROS 2 and of the workspace are found through LD_LIBRARY_PATH and AMENT_PREFIX_PATH, and the dynamic
linker reads the first of them only when a process starts: so the first process sets them and replaces itself once.
This way ``.venv/bin/python``, ``.venv/bin/irvf`` and an activated shell behave alike, without anything to source.
``import irvf`` gives the repository's own sources. ``IRVF_ENVIRONMENT=off`` switches all of this off.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
from pathlib import Path

SETTINGS = Path(__file__).with_suffix(".json")
MARK = "IRVF_ENVIRONMENT"


class RepositoryFinder(importlib.abc.MetaPathFinder):
    """Finds the project's packages in the repository, and nothing else there.

    The repository's root is kept off ``sys.path``: its folders ``launch`` and ``tests`` would become importable.
    """

    def __init__(self, repository, packages):
        self.repository, self.packages = repository, packages

    def find_spec(self, fullname, path=None, target=None):  # noqa: ARG002  (the interface)
        """Answer for the project's top-level packages; their sub-packages follow by themselves."""
        if path is None and fullname in self.packages:
            return importlib.machinery.PathFinder.find_spec(fullname, [self.repository])
        return None


def complete_variables(settings, environment):
    """Return ``environment`` with the variables of ROS 2 and the workspace added."""
    complete = dict(environment)
    for name, paths in settings["search_paths"].items():
        given = [entry for entry in environment.get(name, "").split(os.pathsep) if entry]
        entries = [entry for entry in paths["first"] if Path(entry).is_dir()] + given + paths["last"]
        complete[name] = os.pathsep.join(dict.fromkeys(entries))
    complete.update(settings["variables"])
    return complete


def start():
    """Set the environment up, once per tree of processes, and the import paths, in each process."""
    settings = json.loads(SETTINGS.read_text())
    mark = f"{SETTINGS}:{SETTINGS.stat().st_mtime_ns}"
    if os.environ.get(MARK) == "off":
        return
    if os.environ.get(MARK) != mark:
        variables = complete_variables(settings, os.environ)
        os.execve(sys.executable, sys.orig_argv, {**variables, MARK: mark})  # noqa: S606  (itself, no shell)
    sys.path[:0] = [entry for entry in settings["import_paths"] if Path(entry).is_dir()]
    sys.meta_path.insert(0, RepositoryFinder(settings["repository"], settings["packages"]))


start()
