"""The kernel's entry, run by the sandbox's own Python, where only ipykernel is installed.

ipykernel drops messages for a reader that stalls: of 60,000 flushed prints
44,000 arrived after 6 s. With XPUB_NODROP the kernel waits for the reader
instead. The option has to be set before the socket is bound.
"""

import sys

# The folder of this script holds modules of the sandbox server (`shell`, `files`), which would
# shadow the user's. IPython puts the working directory in its place.
del sys.path[0]

import asyncio  # noqa: E402
import faulthandler  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402

import zmq  # noqa: E402
from ipykernel.iostream import OutStream  # noqa: E402
from ipykernel.ipkernel import IPythonKernel  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from tornado.ioloop import IOLoop  # noqa: E402
from traitlets.config import Config  # noqa: E402

MOST_GATHERED = 1 << 18
"""Characters that are printed at which they are sent."""


class Stream(OutStream):
    """An OutStream that gathers no more than that, and has whoever prints wait until it is sent.

    ipykernel gathers all that is printed in 0.2 s, which can be 60 MB: one message, which
    whoever reads it holds several times over.
    """

    gathered = 0

    def write(self, string):  # type: ignore[no-untyped-def]
        """Print; what others print meanwhile may be counted twice or not, which does no harm."""
        written = super().write(string)
        self.gathered += len(string)
        if self.gathered >= MOST_GATHERED:
            self.flush()  # type: ignore[no-untyped-call]
        return written

    def _flush(self):  # type: ignore[no-untyped-def]
        self.gathered = 0
        super()._flush()  # type: ignore[no-untyped-call]


class NoThread:
    """In place of ipykernel 7's thread for subshells, which nobody asks for here.

    Each message would go from thread to thread four times, a fifth of a cell's time; and that
    thread and the main one use the shell's socket at once at the start, so that one kernel in
    a thousand misses the event of its first message, and all others with it
    (https://github.com/ipython/ipykernel/issues/1554).
    """

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class Kernel(IPythonKernel):
    """An IPythonKernel without subshells."""

    _supports_kernel_subshells = False
    # A pause before each reply, so that output comes before it. It comes over another socket, and
    # the server waits for the end of both.
    _execute_sleep = 0.0


class KernelApp(IPKernelApp):
    """IPKernelApp that never drops a message nor starts deaf, and whose signals wake its loop."""

    kernel_class = Kernel

    def init_control(self, context):  # type: ignore[no-untyped-def]
        """Let the main thread alone read the shell's socket, as ipykernel 6 does."""
        super().init_control(context)  # type: ignore[no-untyped-call]
        if thread := getattr(self, "shell_channel_thread", None):
            thread.io_loop.close()
            self.shell_channel_thread = NoThread()

    def _bind_socket(self, s, port):  # type: ignore[no-untyped-def]
        if s.socket_type == zmq.XPUB:
            s.setsockopt(zmq.XPUB_NODROP, 1)
        return super()._bind_socket(s, port)  # type: ignore[no-untyped-call]

    def init_io(self):  # type: ignore[no-untyped-def]
        """Keep what is printed out of the log."""
        # Until here the log of this process got what failed; from here on it gets crashes of the
        # interpreter alone. ipykernel would copy all that is printed there, secrets too.
        faulthandler.enable(file=os.fdopen(os.dup(2), "w"))
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.close(nothing)
        super().init_io()  # type: ignore[no-untyped-call]

    def init_kernel(self):  # type: ignore[no-untyped-def]
        """Let signals wake the event loop."""
        super().init_kernel()  # type: ignore[no-untyped-call]
        # ipykernel answers SIGINT in an `await` by a callback that does not wake the event loop,
        # so `await asyncio.sleep(60)` would go on for its 60 s. asyncio lets every signal wake
        # the loop once it has a handler for any.
        IOLoop.current().add_callback(
            lambda: asyncio.get_running_loop().add_signal_handler(signal.SIGURG, lambda: None)
        )


if __name__ == "__main__":
    KernelApp.launch_instance(
        outstream_class=f"{__name__}.{Stream.__name__}",
        # Else all cells, with what secrets are in them, stay in a database in the home directory,
        # whose writing takes a tenth of a cell's time. `%history` has those of this kernel.
        config=Config({"HistoryManager": {"enabled": False}}),
    )
