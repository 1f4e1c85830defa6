"""What a layer that keeps more than one kind of cache is made of."""

from dataclasses import dataclass

from calc.specs.numeric import minimum


@dataclass(frozen=True, eq=False)
class CachePart:
    """One kind of cache in a layer: it grows, stops at a reach, or is a state of fixed size.

    Attention kinds with several have ``cache_parts(dtype_bytes, tp)``; paging reads it.
    Bytes are of one layer and sequence on one device.
    """

    bytes_per_token: object = 0.0
    reach: int | None = None
    state_bytes: object = 0

    def cache_bytes(self, tokens):
        """Bytes that a sequence of so many tokens keeps. [byte]

        Examples
        --------
        >>> CachePart(1024, reach=128).cache_bytes(1000), CachePart(state_bytes=4096).cache_bytes(1000)
        (131072, 4096.0)
        """
        kept = tokens if self.reach is None else minimum(tokens, self.reach)
        return kept * self.bytes_per_token + self.state_bytes
