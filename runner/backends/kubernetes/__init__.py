"""Runs on a Kubernetes cluster: a Job whose pod has the sandbox and the agent."""
