"""How the code reads, counted: `python .ci/lines.py`. It fails when a count is worse than in `.ci/lines.json`, and `--save` keeps a better one.

Counted are the lines of the package and of the code cells of all notebooks that are longer than 120 and 140 characters
(without addresses), the lines of each exported cell, the longest modules, and exported functions that no value follows.
`--bare` lists the functions without a value, page by page; with a word behind it, those of the pages that contain it.
"""
import json
import re
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXPORT = re.compile(r'^#\| *(export|exporti|exports)\b', re.M)
HIDDEN = re.compile(r'^#\| *(hide|exec_doc|include: *false)\b', re.M)
DEFINED = re.compile(r'^(?:async +)?(?:def|class) +(\w+)', re.M)

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

def shows(cell):
    "Whether a reader of the page sees this cell do something: it is not exported, not hidden, and more than imports"
    lines = [l for l in body(cell) if not re.match(r'(import|from) ', l)]
    return bool(lines) and not EXPORT.search(cell) and not HIDDEN.search(cell)

def belongs(cell, after):
    "Is a class shown by the value of the cell that follows it: does that one hold private methods of it?"
    made = re.search(r'^class +(\w+)', cell, re.M)
    return bool(made) and bool(after) and all(n.startswith('_') for n in DEFINED.findall(after)) and f'self:{made[1]}' in after

def bare(cells):
    """First name of each exported cell of definitions that no value follows before the next exported cell

    Private helpers, and a class before its private methods, need no value of their own where the cell after them has one.
    """
    found, here, after, last = [], False, False, '' # A value before the next exported cell; one of the definitions there
    for cell in reversed(cells):
        names = DEFINED.findall(cell) if EXPORT.search(cell) else []
        private = all(n.startswith('_') for n in names)
        if names:
            after, last = here or (after and (private or belongs(cell, last))), cell
            if not after: found.append(names[0])
        here = not EXPORT.search(cell) and (here or shows(cell))
    return found[::-1]

def longer(lines, n): return sum(len(l) > n for l in lines)

def notebooks(root):
    "Code cells of every notebook, by path"
    files = sorted((root/'nbs').rglob('*.ipynb'))
    return {str(p.relative_to(root)): cells(p) for p in files if '.ipynb_checkpoints' not in p.parts}

def counts(root):
    "Every count, by name"
    modules = [p for p in (root/'ecg_arrhythmia').rglob('*.py') if p.name!='_modidx.py']
    package = [l for p in modules for l in code_lines(p.read_text())]
    by_page = notebooks(root)
    pages = [c for found in by_page.values() for c in found]
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
        'exported functions without a value below them': sum(len(bare(found)) for found in by_page.values()),
        'modules over 400 lines': sum(len(p.read_text().splitlines()) > 400 for p in modules)}

def list_bare(word=''):
    "Print the functions without a value, a page a line"
    for page, found in notebooks(HERE.parent).items():
        names = bare(found)
        if names and word in page: print(f'{len(names):3d}  {page}  {" ".join(names)}')

def main():
    if '--bare' in sys.argv: return list_bare(*sys.argv[sys.argv.index('--bare')+1:][:1])
    now, file = counts(HERE.parent), HERE/'lines.json'
    before = json.loads(file.read_text()) if file.exists() else {}
    worse = [k for k,v in now.items() if v > before.get(k, v)]
    for k,v in now.items(): print(f'{v:8g}  {k}' + (f'  (was {before[k]:g})' if k in before and before[k]!=v else ''))
    if '--save' in sys.argv: file.write_text(json.dumps(now, indent=1) + '\n')
    elif worse: print('worse: ' + '; '.join(worse) + '. Shorten what you wrote, or say in the commit why and call with --save')
    return bool(worse) and '--save' not in sys.argv

if __name__=='__main__': sys.exit(main())
