"""What the type of a backend message, or a command tag, says by itself: all in the .pxd, inline."""
