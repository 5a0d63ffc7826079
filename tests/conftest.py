"""Ctrl-C means the same in every shell: a job in the background inherits it ignored, and so would the processes the tests start

With `-n 2` each process computes with one thread. Otherwise four threads share two cores and wait for each other.
What reads notebooks goes without a grammar of web addresses, which takes two seconds to compile and checks nothing here.
"""
import os
import signal
import sys

if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1') # before torch is imported
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.modules.setdefault('rfc3987_syntax', None)

def pytest_collection_modifyitems(items):
    "The cluster first: its tests wait most of their time, and others can run beside them"
    items.sort(key=lambda i: i.path.name != 'test_slurm.py')
