"Functions that tests call in a fresh process"
import os, time

def hold(mb, seconds=.5):
    "Hold memory for some time"
    a = bytearray(b'x'*int(mb*1e6))
    time.sleep(seconds)
    return len(a)

def worker_holds(mb):
    "Let a forked worker hold memory"
    if os.fork()==0:
        hold(mb, .6)
        os._exit(0)
    os.wait()
    return 1

def fail(text): raise ValueError(text)
