"""The package list: the library under src, and components/ and pipelines/ as assay.components and assay.pipelines."""

from setuptools import find_packages, setup

TOP_LEVEL = ["components", "components.*", "pipelines", "pipelines.*"]
setup(packages=find_packages("src") + ["assay." + name for name in find_packages(include=TOP_LEVEL)])
