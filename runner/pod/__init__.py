"""What runs in the containers of a run: `python -P -m runner.pod COMMAND`.

A pod of Kubernetes has them, or a Docker engine (`told` and `turns` are for it).

Init containers: `record` brings the record's inputs into the workspace, `clone` the
repositories, `install` the packages. `sandbox` is the sidecar with the GPU, `agent`
the main container. The others are run in a container by a client: `send`, `receive`,
`cancel`, `close`, `remove`, and `hold`, which keeps a pod for them. `retain` is the chart's.
"""
