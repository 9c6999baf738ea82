"""The `docker` backend: a run as containers on this machine's Docker engine.

backend.py      DockerBackend, the protocol
resolve.py      what is refused and looked up before anything starts
containers.py   a run's containers, as the engine's API takes them (pure)
names.py        what a run's containers, volumes and network are called (pure)
fetching.py     what of the user's environment and credentials clones and downloads
launch.py       making and starting them, and undoing it
snapshot.py     what the engine says of a run's containers, as frozen values
explain.py      how a run stands, in words (pure)
exec.py         a command in a running container
files.py        a small file out of a container
reach.py        the ways to a run's record
container_logs.py   what the containers printed

The containers are those of a pod (`runner.pod`): `record`, `clone`, `models` and `install`
prepare, `sandbox` serves, `agent` drives. All are started at once and wait for one another,
so that the client may go at any time.
"""

from runner.backends.docker.backend import DockerBackend

__all__ = ["DockerBackend"]
