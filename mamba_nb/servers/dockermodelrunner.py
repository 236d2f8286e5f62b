"""Docker Model Runner."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="dockermodelrunner",
    title="Docker Model Runner",
    default_url="http://localhost:12434/engines/v1",
    start="Start it with `docker model run MODEL` and turn on host-side TCP access",
    ports=(12434,),
    api_path="/engines/v1",
    owned_by=("docker",),
)
