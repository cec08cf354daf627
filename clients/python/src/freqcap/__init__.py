"""Client of freqcap, the ad frequency-capping service."""

from .client import Client, Fallback
from .errors import FreqcapError, ProblemError, Unavailable
from .pixel import sign_pixel
from .stream import StreamEvent

__all__ = ["Client", "Fallback", "FreqcapError", "ProblemError", "StreamEvent", "Unavailable", "sign_pixel"]
