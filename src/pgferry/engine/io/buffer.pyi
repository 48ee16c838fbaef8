"""What Python sees of the buffers of connections."""

class Memory:
    bytes: int
    buffers: int
    chunk: int
