# The values of a client's startup packet, as SQL that gives them back to it behind a RESET.
from pgferry.engine.core.model cimport Client, Engine

cdef bytes base_again(Client c)
cdef bytes base_script(Client c, object names, list tracked)
cdef bytes reported_text(Engine engine, tuple vars, Py_ssize_t index, int version)
