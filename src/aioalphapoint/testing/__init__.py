"""A simulated exchange to test against: the one that this library is tested with."""

from .exchange import User
from .server import Arrival, SimulatedExchange

__all__ = ["Arrival", "SimulatedExchange", "User"]
