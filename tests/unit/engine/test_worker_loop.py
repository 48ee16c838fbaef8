"""The main loop of a worker: it rests when there is nothing to do."""

import contextlib
import os

from pgferry.engine.ops import worker_loop
from support.rig import Rig


def test_a_log_line_written_between_two_ticks_leaves_the_loop_at_rest() -> None:
    """The line that was to be written in a moment is written early, as a tick does: nothing is left to wait for."""
    with contextlib.closing(Rig()) as rig:
        reader, writer = os.pipe()

        def written_early() -> None:
            os.read(reader, 1)
            rig.log.retry()

        watch = worker_loop.Watch(rig.loop, reader, written_early)
        turns: list[int] = []

        def after_tick() -> None:
            turns.append(rig.loop.turns)
            if len(turns) == 1:
                rig.log.write("LOG", "to be written a moment later")
                os.write(writer, b"x")
            elif len(turns) == 3:
                worker_loop.stop(rig.engine)

        worker_loop.run(rig.engine, after_tick)
        watch.stop()
        os.close(writer)
        assert turns[2] - turns[0] < 100
