"""A simulated exchange to test against: the one that this library is tested with."""

from .exchange import User
from .faults import Faults
from .server import Arrival, SimulatedExchange

__all__ = ["Arrival", "Faults", "SimulatedExchange", "User"]
