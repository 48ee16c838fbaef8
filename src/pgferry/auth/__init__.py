"""Authentication methods: pure computations over bytes, no I/O, standard library only."""
