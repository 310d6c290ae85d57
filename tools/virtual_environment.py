"""The Python environment in ``.venv``: what it is made of, whether it is sound, how it is made."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.request
from pathlib import Path

from integrity import digest, first_difference, listing, read_stamp, write_stamp
from ros_installation import STAND_INS, RosInstallation
from running import StepFailedError, run_logged, step, tail

# PyPI's torch for Linux brings gigabytes of CUDA libraries; this index has the one for the CPU. Another one, e.g.
# https://download.pytorch.org/whl/cu130 to train on a GPU, is taken from the variable TORCH_INDEX.
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
NETWORK_TROUBLE = re.compile(
    r"Could not fetch URL|ConnectionError|ProtocolError|IncompleteRead|SSLError|timed out|Temporary failure|"
    r"Connection (reset|refused|aborted|broken)|HTTP error 5|DO NOT MATCH THE HASHES",
    re.IGNORECASE,
)
DISCOVERY = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
SOURCED_VARIABLES = ("ROS_DISTRO", "ROS_VERSION", "ROS_PYTHON_VERSION")
# An environment made by other versions of these files is made again.
RECIPE = ("virtual_environment.py", "startup.py")


class VirtualEnvironment:
    """``.venv`` of a repository, for one ROS 2.

    Args:
        repository: root of the repository.
        ros: the ROS 2 it is made for.
    """

    def __init__(self, repository: Path, ros: RosInstallation):
        self.repository, self.ros = repository, ros
        self.folder = repository / ".venv"
        self.python = self.folder / "bin/python"
        self.stamp = self.folder / ".irvf-environment.json"
        self.log = repository / ".venv/.irvf-setup.log"
        self.site_packages = self.folder / f"lib/python{ros.python_version[0]}.{ros.python_version[1]}/site-packages"
        kind = "pypi" if ros.from_pypi else "system"
        folder = repository / "requirements"
        self.constraints = [folder / "constraints.txt", folder / f"constraints-{kind}-ros.txt"]
        builds_itself = self.system_colcon() is None
        self.requirements = {
            "demo": [folder / "demo.txt", *([folder / "ros.txt"] if ros.from_pypi else [])]
            + ([folder / "build.txt"] if builds_itself else []),
            "test": [folder / "test.txt"],
        }

    def system_colcon(self) -> str | None:
        """Return the colcon that belongs to an installed ROS 2; one in ``.venv`` does not, even when that is active."""
        colcon = None if self.ros.from_pypi else shutil.which("colcon")
        return None if colcon is None or self.folder in Path(colcon).parents else colcon

    def key(self, layer: str) -> str:
        """Return what the layer is made of, as a digest; another key means that it is out of date."""
        files = [*self.requirements[layer], *self.constraints, *(self.repository / "tools" / name for name in RECIPE)]
        machine = [self.ros.python, self.ros.python_version, self.ros.rclpy, self.ros.distribution]
        return digest(str(self.folder), machine, *files)

    def defect(self, layers: tuple[str, ...]) -> str | None:
        """Return what is wrong with the environment for these layers, ``None`` when nothing is seen."""
        if not self.folder.exists():
            return "there is none yet"
        stamp = read_stamp(self.stamp)
        if not stamp:
            return "it was not finished"
        for layer, key in stamp["layers"].items():
            if key != self.key(layer):
                return "requirements, Python, ROS 2 or the folder changed"
        missing = [layer for layer in layers if layer not in stamp["layers"]]
        difference = first_difference(self.folder, stamp["files"])
        if difference:
            return difference
        return f"the {missing[0]} layer is missing" if missing else None

    def make(self, layers: tuple[str, ...], reason: str) -> None:
        """Make the environment anew, or add the missing layers to one that is otherwise sound."""
        have = tuple(read_stamp(self.stamp).get("layers", ()))
        sound = bool(have) and self.defect(have) is None
        print(f"Setting up .venv for ROS 2 {self.ros.distribution} ({reason})")
        if not sound:
            # A layer that was there before is made again: whoever used it will.
            layers = tuple(name for name in self.requirements if name in (*layers, *have))
            self.create()
            have = ()
        self.stamp.unlink(missing_ok=True)
        self.install(tuple(name for name in layers if name not in have))
        with step("completing"):
            self.complete()
            keys = {name: self.key(name) for name in {*have, *layers}}
            write_stamp(self.stamp, {"layers": keys, "files": listing(self.folder)})

    def create(self) -> None:
        """Make an empty environment in place of whatever lies there."""
        can_make = subprocess.run([self.ros.python, "-c", "import ensurepip, venv"], capture_output=True, check=False)
        if can_make.returncode:
            major, minor, _ = self.ros.python_version
            raise StepFailedError(
                f"{self.ros.python} cannot make virtual environments: sudo apt install python{major}.{minor}-venv "
                "(or your system's package of that name), and run this again."
            )
        if self.folder.is_symlink() or self.folder.exists():
            with step("removing the old .venv"):
                remove(self.folder)
        with step("making .venv"):
            self.folder.mkdir()
            # colcon, wherever it is started, must not look for packages in here.
            (self.folder / "COLCON_IGNORE").touch()
            options = [] if self.ros.from_pypi else ["--system-site-packages"]
            command = [self.ros.python, "-m", "venv", *options, str(self.folder)]
            if not run_logged(command, self.log, self.clean_variables(), self.repository):
                raise StepFailedError(f"{tail(self.log)}\nMend that, and run this again.")

    def clean_variables(self) -> dict[str, str]:
        """Return the variables for pip and venv: those of this process without what would lead them astray."""
        off = {"PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER"}
        off |= {"PYTHONPATH"} if self.ros.from_pypi else set()
        kept = {name: value for name, value in os.environ.items() if name not in off}
        return {**kept, "IRVF_ENVIRONMENT": "off", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def install(self, layers: tuple[str, ...]) -> None:
        """Install the layers with one call of pip; once more after trouble with the network."""
        command = [str(self.python), "-m", "pip", "install", "--no-input"]
        if self.ros.from_pypi:
            command += ["--only-binary=:all:", "--no-binary=empy"]  # empy is published as source only
        else:
            command += ["--prefer-binary"]
        if "test" in layers and answers(TORCH_INDEX):
            command += ["--extra-index-url", TORCH_INDEX]
        for constraint in self.constraints:
            command += ["-c", str(constraint)]
        for layer in layers:
            for requirement in self.requirements[layer]:
                command += ["-r", str(requirement)]
        with step(f"installing the packages ({' and '.join(layers)} layer)"):
            for attempt in ("first", "second"):
                begin = self.log.stat().st_size
                if run_logged(command, self.log, self.clean_variables(), self.repository):
                    return
                noise = self.log.read_bytes()[begin:].decode(errors="replace")
                if attempt == "second" or not NETWORK_TROUBLE.search(noise):
                    break
                print(" network trouble, once more ...", end="", flush=True)
            raise StepFailedError(
                f"{tail(self.log)}\npip could not install the packages: check the network and the free space on the "
                "disk, and run this again."
            )

    def complete(self) -> None:
        """Fit the ROS wheels to this interpreter, and install what runs at its start and the command ``irvf``."""
        if self.ros.from_pypi:
            self.rewrite_cmake_files()
        site_packages = self.site_packages
        shutil.copyfile(self.repository / "tools/startup.py", site_packages / "irvf_startup.py")
        (site_packages / "irvf_startup.json").write_text(json.dumps(self.settings(), indent=1))
        # Before ros_wheels_bootstrapper.pth in the alphabet: one restart of the interpreter does for both.
        (site_packages / "irvf_startup.pth").write_text("import irvf_startup\n")
        variable, value = ("ROS_LOCALHOST_ONLY", "1") if self.ros.distribution == "humble" else DISCOVERY
        command = self.folder / "bin/irvf"
        command.write_text(
            "#!/bin/sh\n"
            "# DDS stays on this machine unless the user says otherwise.\n"
            f'export {variable}="${{{variable}:-{value}}}"\n'
            f'exec {shlex.quote(str(self.python))} -m irvf.cli "$@"\n'
        )
        command.chmod(0o755)

    def rewrite_cmake_files(self) -> None:
        """Replace the Python of the machine that built the ROS wheels, which their CMake files name, by this one."""
        headers = subprocess.run(
            [str(self.python), "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
            capture_output=True, text=True, check=True, env=self.clean_variables(),
        ).stdout.strip()  # fmt: skip
        for path in (self.folder / "share").rglob("*.cmake"):
            text = path.read_text()
            fitted = re.sub(r"/opt/python/cp\d+-cp\d+/include/python[\d.]+", headers, text)
            fitted = re.sub(r"/opt/python/cp\d+-cp\d+/lib/python[\d.]+/site-packages", str(self.site_packages), fitted)
            if fitted != text:
                path.write_text(fitted)

    def settings(self) -> dict[str, object]:
        """Return what ``startup.py`` sets in each process; see there."""
        prefixes = [str(self.repository / "ros2_ws/install" / name) for name in ("irvf_msgs", *STAND_INS)]
        major, minor, _ = self.ros.python_version
        python = f"python{major}.{minor}"
        # Debian's and Ubuntu's Pythons install into the second of them.
        packages = [f"lib/{python}/site-packages", f"local/lib/{python}/dist-packages"]
        libraries = [f"{prefix}/lib" for prefix in prefixes]
        first = {"AMENT_PREFIX_PATH": prefixes, "CMAKE_PREFIX_PATH": prefixes, "LD_LIBRARY_PATH": libraries}
        last: dict[str, list[str]] = {}
        variables = {}
        if self.ros.from_pypi:
            bundled = sorted(str(path) for path in self.site_packages.glob("ros_*.libs"))
            home = str(self.folder)
            first = {
                "AMENT_PREFIX_PATH": [*prefixes, home],
                "CMAKE_PREFIX_PATH": [*prefixes, home],
                "LD_LIBRARY_PATH": [*libraries, f"{home}/lib", *bundled],
                "PATH": [f"{home}/bin"],  # of cmake
            }
            variables = {"ROS_DISTRO": self.ros.distribution, "ROS_VERSION": "2", "ROS_PYTHON_VERSION": "3"}
            # CMake takes this Python before all others; the wheels need not restart the interpreter again.
            variables |= {"VIRTUAL_ENV": home, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
        else:
            # The ROS 2 that is sourced now serves a shell that sources none later.
            for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH"):
                last[name] = [entry for entry in os.environ.get(name, "").split(os.pathsep) if entry]
            variables = {name: os.environ[name] for name in SOURCED_VARIABLES if name in os.environ}
        return {
            "repository": str(self.repository),
            "packages": ["irvf", "irvf_fusion_node"],
            "search_paths": {
                name: {"first": first.get(name, []), "last": last.get(name, [])} for name in {**first, **last}
            },
            "variables": variables,
            "import_paths": [f"{prefix}/{folder}" for prefix in prefixes for folder in packages],
        }


def answers(url: str) -> bool:
    """Whether a package index can be reached at once; pip would try for minutes."""
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=5):  # noqa: S310  (https, or what the user named)
            return True
    except (OSError, ValueError):
        return False


def remove(folder: Path) -> None:
    """Remove a folder, or the link in its place, if there is any."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
