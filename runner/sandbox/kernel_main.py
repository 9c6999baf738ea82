"""The kernel's entry, run by the sandbox's own Python, where only ipykernel is installed.

ipykernel drops messages for a reader that stalls: of 60,000 flushed prints
44,000 arrived after 6 s. With XPUB_NODROP the kernel waits for the reader
instead. The option has to be set before the socket is bound.
"""

import sys

# The folder of this script holds modules of the sandbox server (`shell`, `files`), which would
# shadow the user's. IPython puts the working directory in its place.
del sys.path[0]

import zmq  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402


class KernelApp(IPKernelApp):
    """IPKernelApp whose iopub socket never drops a message."""

    def _bind_socket(self, s, port):  # type: ignore[no-untyped-def]
        if s.socket_type == zmq.XPUB:
            s.setsockopt(zmq.XPUB_NODROP, 1)
        return super()._bind_socket(s, port)


if __name__ == "__main__":
    KernelApp.launch_instance()
