# Socket addresses as text, made only when somebody wants to read them.
cdef tuple address_text(bytes raw)
cdef bytes local_address(int fd)
