"Whole folders, locks, cores and outputs, also where a system cannot do what Linux can"
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecg_arrhythmia import core
from ecg_arrhythmia.commands.outputs import *
from ecg_arrhythmia.core import *
from ecg_arrhythmia.core import ECGError

def folder(path, text):
    path.mkdir()
    (path/'card').write_text(text)
    return path

@pytest.mark.parametrize('exchange', [True, False])
def test_a_folder_is_replaced_whole(tmp_path, monkeypatch, exchange):
    if not exchange: monkeypatch.setattr(core, '_exchange', lambda a, b: False)
    made, dest = folder(tmp_path/'made', 'new'), folder(tmp_path/'model', 'old')
    replace_folder(made, dest)
    assert (dest/'card').read_text()=='new' and [p.name for p in tmp_path.iterdir()]==['model']

def test_a_failed_replacement_leaves_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(core, '_exchange', lambda a, b: False)
    dest = folder(tmp_path/'model', 'old')
    with pytest.raises(OSError): replace_folder(tmp_path/'nothing', dest)
    assert (dest/'card').read_text()=='old'

KILLED = """
import os, sys
from pathlib import Path
from ecg_arrhythmia import core
core._exchange = lambda a, b: False
rename = Path.rename
def killed(self, target):
    rename(self, target)
    os._exit(9)
Path.rename = killed
core.replace_folder(Path(sys.argv[1])/'made', Path(sys.argv[1])/'model')"""

def test_killed_between_two_renames_the_old_folder_comes_back(tmp_path):
    folder(tmp_path/'made', 'new'), folder(tmp_path/'model', 'old')
    assert subprocess.run([sys.executable, '-c', KILLED, tmp_path]).returncode==9 and not (tmp_path/'model').exists()
    recover_folder(tmp_path/'model')
    assert (tmp_path/'model/card').read_text()=='old'
    replace_folder(tmp_path/'made', tmp_path/'model')
    assert (tmp_path/'model/card').read_text()=='new'

def test_what_a_killed_replacement_left_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(core, '_exchange', lambda a, b: False)
    folder(tmp_path/'.model.old', 'older'), folder(tmp_path/'model', 'old'), folder(tmp_path/'made', 'new')
    replace_folder(tmp_path/'made', tmp_path/'model')
    assert (tmp_path/'model/card').read_text()=='new' and [p.name for p in tmp_path.iterdir()]==['model']

def test_a_file_system_without_locks_is_not_another_process(tmp_path, monkeypatch):
    def refuses(f, how): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    with hold(tmp_path/'a') as mine, hold(tmp_path/'a') as second: assert mine and not second
    monkeypatch.setattr(core.fcntl, 'flock', refuses)
    with pytest.raises(ECGError, match='no locks'): locked(tmp_path/'b')

def test_a_lock_is_waited_for_as_long_as_asked(tmp_path):
    with hold(tmp_path/'a'):
        with hold(tmp_path/'a', wait=.1) as mine: assert not mine
    with hold(tmp_path/'a', wait=True) as mine: assert mine
    assert not (tmp_path/'a').exists()

def test_cores_where_the_system_does_not_say(monkeypatch):
    monkeypatch.delattr(os, 'sched_getaffinity', raising=False)
    assert cores()==os.cpu_count() and list(each(abs, [-1, -2], progress=False))==[1, 2]

OWN = {
    'table': is_csv('name', 'peak'),
    'split': is_json('train', 'folds'),
    'page': is_text('<!-- ecg -->'),
    'run': is_folder('run.json'),
}
FIT = {'table': 'peak,name,x\n1,a,2\n', 'split': '{"train": [], "folds": [], "more": 1}', 'page': '<html><!-- ecg -->'}

@pytest.mark.parametrize('kind', list(FIT))
def test_only_a_file_of_its_own_kind_is_replaced(tmp_path, kind):
    out = tmp_path/'out'
    assert check_output(out, OWN[kind], 'it')==out
    out.write_text(FIT[kind])
    assert check_output(out, OWN[kind], 'it')==out
    for text in ('', 'patient,name\n1,2\n', '{"train": []}', '[1]', '\0\xff', '<html>'):
        out.write_text(text)
        with pytest.raises(ECGError, match='is not it'): check_output(out, OWN[kind], 'it')
    out.unlink()
    out.mkdir()
    with pytest.raises(ECGError, match='is not it'): check_output(out, OWN[kind], 'it')

def test_only_a_folder_of_its_own_kind_is_written_to(tmp_path):
    check_output(tmp_path/'out', OWN['run'], 'a run')
    (tmp_path/'out').mkdir()
    check_output(tmp_path/'out', OWN['run'], 'a run')
    (tmp_path/'out/letter.txt').touch()
    with pytest.raises(ECGError, match='is not a run'): check_output(tmp_path/'out', OWN['run'], 'a run')
    (tmp_path/'out/run.json').touch()
    check_output(tmp_path/'out', OWN['run'], 'a run')

def test_an_output_is_no_input_by_any_name(tmp_path):
    data = tmp_path/'data.csv'
    data.write_text('name,peak\n')
    (tmp_path/'link').symlink_to(data)
    for name in (data, tmp_path/'.'/'data.csv', tmp_path/'link'):
        with pytest.raises(ECGError, match='is an input'): check_output(name, OWN['table'], 'a table', inputs=[None, data])
    with pytest.raises(ECGError, match='is a file, not a folder'): check_output(data/'x.csv', OWN['table'], 'a table')
    (tmp_path/'gone').symlink_to(tmp_path/'nowhere')
    with pytest.raises(ECGError, match='is not a table'): check_output(tmp_path/'gone', OWN['table'], 'a table')

# --- workers end with their parent

SLEEPERS = """
import os, time
from pathlib import Path
from ecg_arrhythmia.core import in_processes

def sleep(folder):
    (Path(folder)/str(os.getpid())).touch()
    time.sleep(600)

if __name__=='__main__': in_processes(sleep, 2, 'begun')
"""
def is_alive(pid) -> bool:
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError: return False

@pytest.mark.slow # two processes that load torch
@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='asks /proc')
def test_workers_that_train_end_when_their_parent_is_killed(tmp_path):
    "They would keep their memory of a GPU, and the locks of their runs"
    (tmp_path/'sleepers.py').write_text(SLEEPERS)
    (tmp_path/'begun').mkdir()
    p = subprocess.Popen([sys.executable, '-W', 'ignore', 'sleepers.py'], cwd=tmp_path)
    until = time.monotonic() + 300
    while len(list((tmp_path/'begun').iterdir())) < 2 and p.poll() is None and time.monotonic() < until: time.sleep(.1)
    workers = [f.name for f in (tmp_path/'begun').iterdir()]
    p.kill()
    p.wait()
    until = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < until: time.sleep(.1)
    left = [w for w in workers if is_alive(w)]
    for w in left: os.kill(int(w), signal.SIGKILL)
    assert len(workers)==2 and not left
