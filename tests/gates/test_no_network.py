"""Nothing reaches the network: not a test, not a process it starts, not a notebook's kernel."""
import os
import socket
import subprocess
import sys
import threading

import nbformat
import pytest
from nbclient import NotebookClient

REFUSED = "the tests have no network"
# 192.0.2.1 is nobody's (RFC 5737): nothing would be reached, should the refusal fail.
CONNECT = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
LOOK_UP = "import socket; socket.getaddrinfo('example.org', 443)"
SEND = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))"
FETCH = "from urllib.request import urlopen; urlopen('https://example.org', timeout=2)"
ATTEMPTS = pytest.mark.parametrize("attempt", [CONNECT, LOOK_UP, SEND, FETCH])


@ATTEMPTS
def test_refused_in_this_process(attempt):
    with pytest.raises(OSError, match=REFUSED):
        exec(attempt, {})


@ATTEMPTS
def test_refused_in_a_subprocess(attempt):
    result = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True)
    assert result.returncode and REFUSED in result.stderr


def test_the_attempt_goes_out_where_nothing_refuses_it():
    """The samples above do try: without the refusal they end in another error, or in none."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, "-c", CONNECT], capture_output=True, text=True,
                            env=environment)
    assert REFUSED not in result.stderr


def test_refused_in_a_kernel():
    cells = [nbformat.v4.new_code_cell(attempt, metadata={"tags": ["raises-exception"]})
             for attempt in (CONNECT, LOOK_UP, SEND, FETCH)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    said = [output["evalue"] for cell in notebook.cells for output in cell.outputs]
    assert len(said) == 4 and all(REFUSED in sentence for sentence in said)


def test_loopback_stays_open():
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: server.accept()[0].sendall(b"here"), daemon=True).start()
    with socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as client:
        assert client.recv(4) == b"here"
    server.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_unix_sockets_stay_open():
    one, other = socket.socketpair()
    one.sendall(b"here")
    assert other.recv(4) == b"here"
