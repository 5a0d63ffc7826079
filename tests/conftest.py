"""Ctrl-C means the same in every shell: a job in the background inherits it ignored, and so would the processes the tests start

With `-n` each process computes with one thread. Otherwise twice as many threads share two cores and wait for each other.
What reads notebooks goes without a grammar of web addresses, which takes two seconds to compile and checks nothing here.
"""
import gc
import os
import signal
import sys

if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1') # before torch is imported
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.modules.setdefault('rfc3987_syntax', None)

gc.disable() # until all modules are there: what they hold is looked through again and again otherwise

# The cluster first: its tests wait most of their time. Then the files that take longest, so that no process ends long after the others
FIRST = ['slurm', 'search', 'train', 'pictures', 'jobs', 'predict', 'report', 'commands', 'variants', 'fuzz_pictures', 'fuzz_formats']

def pytest_collection_modifyitems(items):
    "The longest files first"
    place = {f'test_{name}.py': i for i,name in enumerate(FIRST)}
    items.sort(key=lambda i: place.get(i.path.name, len(place)))

def pytest_collection_finish():
    "Collect garbage from here on, in what is made from here on"
    gc.freeze()
    gc.enable()
