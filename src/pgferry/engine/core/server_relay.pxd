# What passes from a server to its client, and what is under way beside it.
from libc.stdint cimport uint8_t

from pgferry.engine.core.enums cimport COPY_BOTH


cdef class ServerRelay:
    # The message that is passing: bytes still to come, and whether they are forwarded.
    cdef readonly size_t passing
    cdef readonly bint passing_on
    cdef readonly int bulk_chunks    # chunks of one long result received in a row
    cdef readonly uint8_t copy_in    # the server reads CopyData: COPY_IN; and sends it, too: COPY_BOTH
    cdef readonly bint copy_ended    # the client's CopyDone or CopyFail went by
    cdef readonly bint streamed      # CommandComplete has ended a COPY_BOTH
    cdef readonly bint barrier_needed
    cdef readonly bint reset_pending  # by a session's end; while the barrier is open
    cdef readonly bint more          # bytes lay behind the message at hand
    cdef readonly bint warned_of_drop  # the log has a line about a dropped notification
    cdef readonly bint advance_due   # answers of pgferry's own follow the message that is passing
    cdef readonly bint skipping      # after an error: everything up to Sync goes unanswered

    cdef inline int advance_is_due(self, bint due) noexcept:
        # Answers of pgferry's own follow the message that is passing.
        self.advance_due = due
        return 0

    cdef inline int begin_message(self, bint passing_on, size_t rest) noexcept:
        # So many bytes of the message at hand are still to come; whether the client gets them.
        self.passing_on = passing_on
        self.passing = rest
        return 0

    cdef inline int passed(self, size_t n) noexcept:
        self.passing -= n
        return 0

    cdef inline int count_chunk(self, bint of_long_result) noexcept:
        # One more in a row, or the row has ended.
        self.bulk_chunks = self.bulk_chunks + 1 if of_long_result else 0
        return 0

    cdef inline int more_follows(self, bint more) noexcept:
        # Bytes lie behind the message at hand.
        self.more = more
        return 0

    cdef inline int end_stream(self) noexcept:
        # CommandComplete behind a COPY.
        self.streamed = self.copy_in == COPY_BOTH
        return self.end_copy()

    cdef inline int drop_is_logged(self) noexcept:
        self.warned_of_drop = True
        return 0

    cdef inline int barrier_is_needed(self, bint needed) noexcept:
        # Answers to Syncs of a COPY that has failed may still come: an empty query shows where they end.
        self.barrier_needed = needed
        return 0

    cdef inline int reset_follows(self, bint reset) noexcept:
        # Behind the barrier that is on its way: whether server_reset_query comes.
        self.reset_pending = reset
        return 0

    cdef inline int begin_copy(self, uint8_t how) noexcept:
        # CopyInResponse, CopyBothResponse.
        self.copy_in = how
        self.copy_ended = self.streamed = False
        return 0

    cdef inline int end_copy(self) noexcept:
        # COPY is over, or was never under way.
        self.copy_in = self.copy_ended = False
        return 0

    cdef inline bint client_ends_copy(self) noexcept:
        # CopyDone or CopyFail; False: the server does not read copy data, or has had its end.
        if not self.copy_in or self.copy_ended:
            return False
        self.copy_ended = True
        return True

    cdef inline int skips(self, bint skipping) noexcept:
        # PostgreSQL ignores what comes up to the next Sync, or has had it.
        self.skipping = skipping
        return 0
