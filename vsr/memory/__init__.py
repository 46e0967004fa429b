"""Memory reads: a query feature asks a set of sentences (frames' features)."""

from vsr.memory.addressing import Flat2d
from vsr.memory.hops import Memory, MemoryRead
from vsr.memory.pixsentence import PixSentence
from vsr.memory.pixsim import PixSim
from vsr.memory.pixwise import PixWise

__all__ = ["Flat2d", "Memory", "MemoryRead", "PixSentence", "PixSim", "PixWise"]
