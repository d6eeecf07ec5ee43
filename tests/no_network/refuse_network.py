"""Refuse the network in this Python, from the import of this module on.

An audit hook sees every connection that goes through Python's sockets, and nothing can remove it.
Loopback and Unix sockets stay open: Jupyter's kernels talk over them.
"""
import errno
import ipaddress
import socket
import sys

CONNECTING = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname")
HERE = {"", "localhost", "0.0.0.0", "::", socket.gethostname()}


def is_here(host):
    """Whether a host is this machine, seen from itself."""
    host = host.decode() if isinstance(host, bytes) else host
    if host is None or host in HERE:
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def refuse(event, arguments):
    """Audit hook: raise where something outside this machine is about to be reached."""
    if event in CONNECTING:
        connection, address = arguments[:2]
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or address is None:
            return
        host = address[0]
    elif event in LOOKING_UP:
        host = arguments[0]
    else:
        return
    if not is_here(host):
        raise OSError(errno.ENETUNREACH, f"the tests have no network, and this wanted {host!r}")


sys.addaudithook(refuse)
