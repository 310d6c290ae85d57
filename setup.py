from pathlib import Path

from setuptools import find_packages, setup

NAME = "irvf"
# Installed beside the Python packages, where `ros2 launch` and FindPackageShare look for them.
SHARED_FOLDERS = ("config", "launch", "models")


def shared_files():
    """List the files of the shared folders by the folder that they are installed into."""
    installed = {}
    for folder in SHARED_FOLDERS:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                installed.setdefault(f"share/{NAME}/{path.parent.as_posix()}", []).append(str(path))
    return sorted(installed.items())


setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=["irvf", "irvf.*", "irvf_fusion_node", "irvf_fusion_node.*"]),
    package_data={"": ["*.yaml"], "irvf.instruction": ["grammar/*.yaml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared_files(),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="irvf maintainers",
    maintainer_email="maintainers@example.com",
    description="Fuses thermal and RGB images into one, as a text instruction asks for it.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "irvf = irvf.cli.__main__:main",
            "irvf_fusion_node = irvf_fusion_node.__main__:main",
        ],
    },
)
