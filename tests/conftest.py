"Ctrl-C means the same in every shell: a job in the background inherits it ignored, and so would the processes the tests start"
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
