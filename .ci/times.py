"""Processor seconds of each notebook and each file of tests: `python .ci/times.py [PATTERN]`, dearest first.

What the test command of the README takes on two idle cores is half of the sum. A busy machine makes the clock wrong, not these.
"""
import os
import subprocess
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def measure(command):
    "Processor seconds of a command with all its children, and whether it passed"
    env = os.environ | dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', MPLBACKEND='Agg')
    p = subprocess.Popen(list(map(str, command)), cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(p.pid, 0)
    return used.ru_utime + used.ru_stime, status==0

def main(pattern=''):
    tools, found = Path(sys.executable).parent, []
    for f in sorted([*(root/'nbs').rglob('*.ipynb'), *(root/'tests').glob('test_*.py')]):
        if pattern not in str(f) or '.ipynb_checkpoints' in f.parts: continue
        command = [tools/'nbdev-test', f, '--n-workers', 0] if f.suffix=='.ipynb' else [tools/'pytest', '-q', '-n', 0, f]
        seconds, passed = measure(command)
        found.append((seconds, f.relative_to(root)))
        print(f'{seconds:7.1f}  {f.relative_to(root)}' + ('' if passed else '  FAILED'), flush=True)
    print('\nDearest first:')
    for seconds,f in sorted(found, reverse=True)[:30]: print(f'{seconds:7.1f}  {f}')
    for kind in ('.ipynb', '.py'): print(f'{sum(s for s,f in found if f.suffix==kind)/60:7.1f}  minutes of all {kind}')

if __name__=='__main__': main(*sys.argv[1:])
