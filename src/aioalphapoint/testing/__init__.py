"""A simulated exchange to test against: the one that this library is tested with."""

from .faults import Faults
from .journal import Arrival
from .server import SimulatedExchange
from .users import User

__all__ = ["Arrival", "Faults", "SimulatedExchange", "User"]
