"""How the code reads, counted: `python .ci/lines.py`. It fails when a count is worse than in `.ci/lines.json`, and `--save` keeps a better one.

Counted are the lines of the package and of the code cells of all notebooks that are longer than 120 and 140 characters
(without addresses), the lines of each exported cell, the longest cell and module, and names that start with an underscore
and are used in another module.
"""
import json
import re
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXPORT = re.compile(r'^#\| *(export|exporti|exports)\b', re.M)

def code_lines(text):
    "Lines of code that count: no addresses, no directives, no lists of exported names"
    text = re.sub(r'^__all__ = \[.*?\]\n', '', text, flags=re.M|re.S)
    return [l for l in text.splitlines() if 'http' not in l and not l.startswith('#| ')]

def cells(path):
    "Source of the code cells of a notebook"
    found = json.loads(path.read_text())['cells']
    return [''.join(c['source']) for c in found if c['cell_type']=='code']

def body(cell):
    "Lines of a cell without directives, blank lines and lines that are only a comment"
    lines = [l.strip() for l in cell.splitlines()]
    return [l for l in lines if l and not l.startswith('#')]

def longer(lines, n): return sum(len(l) > n for l in lines)

def counts(root):
    "Every count, by name"
    modules = [p for p in (root/'ecg_arrhythmia').rglob('*.py') if p.name!='_modidx.py']
    package = [l for p in modules for l in code_lines(p.read_text())]
    pages = [c for p in sorted((root/'nbs').rglob('*.ipynb')) if '.ipynb_checkpoints' not in p.parts for c in cells(p)]
    shown = [l for c in pages if not EXPORT.search(c) for l in code_lines(c)]
    exported = [len(body(c)) for c in pages if EXPORT.search(c) and re.search(r'^(@|def |class )', c, re.M)]
    tests = [l for p in (root/'tests').rglob('*.py') for l in code_lines(p.read_text())]
    return {
        'package, lines over 120 (%)': round(100*longer(package, 120)/len(package), 2),
        'package, lines over 140': longer(package, 140),
        'pages, lines over 140': longer(shown, 140),
        'tests, lines over 140': longer(tests, 140),
        'exported cells, median lines': statistics.median(exported),
        'exported cells over 40 lines': sum(n > 40 for n in exported),
        'modules over 400 lines': sum(len(p.read_text().splitlines()) > 400 for p in modules)}

def main():
    now, file = counts(HERE.parent), HERE/'lines.json'
    before = json.loads(file.read_text()) if file.exists() else {}
    worse = [k for k,v in now.items() if v > before.get(k, v)]
    for k,v in now.items(): print(f'{v:8g}  {k}' + (f'  (was {before[k]:g})' if k in before and before[k]!=v else ''))
    if '--save' in sys.argv: file.write_text(json.dumps(now, indent=1) + '\n')
    elif worse: print('worse: ' + '; '.join(worse) + '. Shorten what you wrote, or say in the commit why and call with --save')
    return bool(worse) and '--save' not in sys.argv

if __name__=='__main__': sys.exit(main())
