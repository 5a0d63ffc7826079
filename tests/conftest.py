"Ctrl-C means the same in every shell: a job in the background inherits it ignored, and so would the processes the tests start"
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)

def pytest_collection_modifyitems(items):
    "The cluster first: its tests wait most of their time, and others can run beside them"
    items.sort(key=lambda i: i.path.name != 'test_slurm.py')
