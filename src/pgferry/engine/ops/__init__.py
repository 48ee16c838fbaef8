"""What surrounds the engine in a worker: main loop, listener, SHOW, operations, hand-over."""
