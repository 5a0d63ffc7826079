"""What a prediction needs, measured: `python .ci/small.py`.

Two things are checked. The packages of `predict_requirements` in settings.ini, with all that they require and with this
package, take at most 250 MB. And the command answers for a file and for a folder, writes a page and explains it, in a process
that can import nothing else.
"""
import configparser
import importlib.abc
import os
import re
import sys
import tempfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

MOST = 250 # MB
ROOT = Path(__file__).resolve().parent.parent

def plain(name): return re.sub('[-_.]+', '-', name).lower()

def needed(wanted):
    "The distributions of requirements, and of their own"
    found, todo = {}, list(map(Requirement, wanted))
    while todo:
        r = todo.pop()
        if plain(r.name) in found or r.marker and not r.marker.evaluate({'extra': ''}): continue
        found[plain(r.name)] = d = distribution(r.name)
        todo += map(Requirement, d.requires or ())
    return found

def size(dist):
    "Bytes of the files of a distribution"
    files = (Path(dist.locate_file(f)) for f in dist.files or ())
    return sum(f.stat().st_size for f in files if f.is_file())

class Nothing(importlib.abc.MetaPathFinder):
    "Refuses what is neither Python's own nor among the allowed modules"
    def __init__(self, allowed): self.allowed = allowed
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top not in self.allowed: raise ModuleNotFoundError(f'no module named {name!r} in a small installation', name=top)

def predict_all(folder):
    "Each way of the command"
    from ecg_arrhythmia.commands.prediction import ecg_predict
    from ecg_arrhythmia.data.convert import write_recording
    from ecg_arrhythmia.data.simulation import simulate
    for kind in ('csv', 'hea', 'dcm', 'xml'): write_recording(simulate('SR', seed=1), folder/f'{kind}.{kind}')
    ecg_predict(folder/'csv.csv', html=folder/'page.html', explain=True)
    assert '<svg' in (folder/'page.html').read_text()
    (folder/'page.html').unlink()
    ecg_predict(folder, out=folder.parent/'answers.csv')
    rows = (folder.parent/'answers.csv').read_text().splitlines()[1:]
    assert len(rows)==4 and all(',SR,' in r for r in rows), rows

if __name__=='__main__':
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    dists = needed(ini['DEFAULT']['predict_requirements'].split())
    sizes = {name: size(d)/1e6 for name,d in dists.items()}
    own = ROOT/'ecg_arrhythmia'
    sizes['ecg_arrhythmia'] = sum(f.stat().st_size for f in own.rglob('*') if f.is_file())/1e6
    print(', '.join(f'{name} {mb:.0f}' for name,mb in sorted(sizes.items(), key=lambda o: -o[1]) if mb >= .5))
    total = sum(sizes.values())
    print(f'{len(sizes)} packages, {total:.0f} MB of at most {MOST}')
    assert total <= MOST, total
    allowed = {m for m,names in packages_distributions().items() if {plain(n) for n in names} & set(dists)}
    sys.meta_path.insert(0, Nothing({*sys.stdlib_module_names, 'ecg_arrhythmia', *allowed}))
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        (Path(tmp)/'some').mkdir()
        predict_all(Path(tmp)/'some')
