"""Run tests/helpers/train_once.py on two processes, like torchrun, but with one import: the second is a fork.

python -m tests.helpers.train_on_two OUTPUT_FOLDER '{...}'
"""

import os
import signal
import socket
import sys

from tests.helpers import train_once


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    other = os.fork()
    rank = str(int(other == 0))
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
    try:
        train_once.main()
    except BaseException:
        if other:  # the other process would wait for this one
            os.kill(other, signal.SIGKILL)
        raise
    if other:
        _, status = os.waitpid(other, 0)
        sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
