# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory: a piece of internet, and the edge of a network behind it, in network namespaces of its own.

    PREFIX-net                                               PREFIX-edge
    attackers 198.51.100.0/24, 198.18.0.0/15                 sipward on eth1
    phones    203.0.113.0/24                 o0 ─ veth ─ eth1  Kamailio on 192.0.2.10 and 2001:db8:0:1::10
    gateway   192.0.2.1, 2001:db8:0:1::1

Everything in it is real: Kamailio with digest authentication, phones by SIPp, attackers by SIPVicious, nftables in the kernel.
What each source sent, and how much of that reached the server's socket, the kernel counts at either end.
"""
from .attackers import Attacks
from .network import GATEWAY_V4, GATEWAY_V6, SERVER_V4, SERVER_V6, Network
from .phones import Callees, Calls, Phones
from .server import EXCHANGE, Kamailio
from .sipward import Sipward

__all__ = ["EXCHANGE", "GATEWAY_V4", "GATEWAY_V6", "Callees", "Calls", "Kamailio", "Lab", "Network", "Phones", "SERVER_V4", "SERVER_V6", "Sipward"]


class Lab(Network):
    """The namespaces with Kamailio running in them; everything else is started as it is needed. A context manager."""

    def __enter__(self):
        super().__enter__()
        try:
            self.kamailio = Kamailio(self)
            self.attacks = Attacks(self)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self
