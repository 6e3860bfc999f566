"""Leaves in what is built the commit that it was built from; all else is in pyproject.toml."""

import importlib.util
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("checkout", ROOT / "harness" / "measure" / "checkout.py")
checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checkout)


class BuildWithCommit(build_py):
    """Copies the packages, and what they are a copy of."""

    def run(self):
        """See setuptools."""
        super().run()
        if not self.editable_mode:
            checkout.leave(ROOT, Path(self.build_lib))


class ArchiveWithCommit(sdist):
    """An archive, from which others build."""

    def make_release_tree(self, base_dir, files):
        """See setuptools."""
        super().make_release_tree(base_dir, files)
        checkout.leave(ROOT, Path(base_dir))


setup(cmdclass={"build_py": BuildWithCommit, "sdist": ArchiveWithCommit})
