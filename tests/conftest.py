"""What all tests need."""

import signal

# A suite started in the background of a shell inherits a SIGINT that is ignored; the tests of Ctrl-C need Python's own handling of it.
signal.signal(signal.SIGINT, signal.default_int_handler)
