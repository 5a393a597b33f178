"""Which names and addresses are this machine's own."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach that host name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
