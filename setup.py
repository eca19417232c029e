"""
Metadata and packaging of txsse; the build system and the tools are configured in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
numbers = re.search(
    r'Version\("txsse", (\d+), (\d+), (\d+)(?:, dev=(\d+))?\)',
    (here / "txsse" / "_version.py").read_text(encoding="utf-8"),
)
assert numbers is not None, "txsse/_version.py holds no version"
year, month, patch, dev = numbers.groups()
version = f"{year}.{month}.{patch}" + (f".dev{dev}" if dev is not None else "")

# A package index shows the README without the repository, so relative links would be dead: each becomes the
# name of its file.
readme = re.sub(
    r"`([^`<]+?)\s+<(?!https?:)([^>`]+)>`_",
    lambda link: f"``{link[2]}``" if link[1] == link[2] else f"{link[1]} (``{link[2]}``)",
    (here / "README.rst").read_text(encoding="utf-8"),
)

tls = ["Twisted[tls]"]
http2 = ["Twisted[http2,tls]"]
metrics = ["prometheus-client>=0.20"]
mercure = ["PyJWT[crypto]>=2.12", "urlpattern>=0.3"]
redis = ["txredisapi>=1.6", "hiredis>=3"]
docs = ["sphinx>=9", "furo"]
test = [
    *docs,
    *tls,
    *http2,
    *mercure,
    *metrics,
    *redis,
    "django>=4.2",
    "flask>=3",
    "httpx[http2]>=0.27",
    "httpx-sse>=0.4",
    "hypothesis>=6.100",
    "klein>=23.5",
    "mercure-publisher==0.1.0",
    "mypy>=1.11",
    "pymercure==0.0.1.0",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-timeout>=2.3",
    "pytest-twisted>=1.14",
    "pytest-xdist>=3.6",
    "requests>=2.31",
    "schemathesis>=4.30",
    "selenium>=4.20",
    "sse-starlette>=2.1",
    "sseclient-py>=1.8",
    "uritemplate>=4",
    "uvicorn>=0.30",
]
dev = [*test, "build", "mypy-zope>=1.0", "nox>=2024.4", "pre-commit>=3", "ruff>=0.6", "towncrier>=24.8"]

setup(
    name="txsse",
    version=version,
    description="Server-sent events for Twisted",
    long_description=readme,
    long_description_content_type="text/x-rst",
    # As in LICENSE. When the repository is public, its URLs belong into project_urls.
    author="the txsse developers",
    keywords=[
        *("server-sent events", "sse", "eventsource", "text/event-stream", "mercure"),
        *("twisted", "http", "streaming", "push", "real-time"),
    ],
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["txsse", "txsse.*"]), "twisted.plugins"],
    package_data={"txsse": ["py.typed", "demo/*.html", "journal/redis/*.lua", "mercure/*.html"]},
    # Twisted depends on Automat in any version; the client's state machine needs its typed API, from 24.8.
    install_requires=["Twisted>=24.11.0", "automat>=24.8.0"],
    extras_require={
        "http2": http2,
        "mercure": mercure,
        "metrics": metrics,
        "redis": redis,
        "tls": tls,
        "test": test,
        "docs": docs,
        "dev": dev,
    },
    entry_points={"console_scripts": ["txsse = txsse.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Internet :: WWW/HTTP",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: Software Development :: Libraries",
        "Typing :: Typed",
    ],
)
