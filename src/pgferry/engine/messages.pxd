# Backend messages the engine makes itself.
cdef bytes error_message(str severity, str sqlstate, str text)
cdef bytes plan_changed()
cdef bytes notice_message(str text)
cdef bytes parameter_status(bytes name, bytes value)
cdef dict error_fields(const char *body, size_t n)
cdef bytes quote_identifier(bytes name)
cdef bytes quote_literal(bytes value)
cdef bytes simple_query(bytes text)
