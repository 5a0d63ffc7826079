"""README.md and CONTRIBUTING.md from their pages in nbs/. With --check, fail if they differ."""
import re
import sys
from pathlib import Path

import nbformat
from fastcore.nbio import mk_cell
from nbconvert import MarkdownExporter

# Only in README.md: the site loads nothing from other servers.
BADGES = '\n'.join((
    '[![test](https://github.com/ecg-arrhythmia/ecg_arrhythmia/actions/workflows/test.yaml/badge.svg)](https://github.com/ecg-arrhythmia/ecg_arrhythmia/actions/workflows/test.yaml)',
    '[![Python 3.11 to 3.13](https://img.shields.io/badge/python-3.11%20to%203.13-blue)](nbs/start/install.ipynb)',
    '[![License: Apache-2.0](https://img.shields.io/badge/license-Apache--2.0-blue)](LICENSE)',
))

PAGES = {'README.md': 'index.ipynb', 'CONTRIBUTING.md': 'contributing.ipynb'}

def markdown(root, page, pictures='README_files'):
    "The text of a page as Markdown for the top folder, and its pictures, by path"
    nb = nbformat.read(root/'nbs'/page, 4)
    directives = lambda c: mk_cell(c.source, c.cell_type).directives
    nb.cells = [c for c in nb.cells if 'hide' not in directives(c)]
    alts = [directives(c)['fig-alt'].strip('"') for c in nb.cells if 'fig-alt' in directives(c)]
    for c in nb.cells:
        if directives(c).get('echo')=='false': c.source = ''
        c.source = re.sub(r'^#\| .*\n', '', c.source, flags=re.M)
    text, resources = MarkdownExporter().from_notebook_node(nb, {'output_files_dir': pictures})
    text = re.sub(r'```(python)?\s*```\n', '', text)
    text = re.sub(r'```\n(from|import)', r'```python\n\1', text)
    text = re.sub(r'\]\(([\w/]+\.ipynb(?:#[\w.-]+)?)\)', r'](nbs/\1)', text)
    for alt in alts: text = text.replace('![png]', f'![{alt}]', 1)
    return re.sub(r'\n\s*\n\s*\n', '\n\n', re.sub(r' +$', '', text, flags=re.M)).strip()+'\n', resources['outputs']

def made(root):
    "What the files should hold, by path"
    files = {}
    for name,page in PAGES.items():
        if not (root/'nbs'/page).exists(): continue
        text, pictures = markdown(root, page)
        if name=='README.md': text = re.sub(r'\A(# .+\n)', rf'\1\n{BADGES}\n', text)
        files |= {name: text.encode(), **pictures}
    return files

def differing(root):
    "Files that are not what they should be, or are not needed any more"
    files = made(root)
    return [k for k,v in files.items() if not (root/k).exists() or (root/k).read_bytes() != v] + unused(root, files)

def unused(root, files): return [k for p in (root/'README_files').glob('*') if (k := str(p.relative_to(root))) not in files]

if __name__=='__main__':
    root = Path(__file__).resolve().parent.parent
    if '--check' in sys.argv:
        old = differing(root)
        sys.exit(f'{old} differ from their pages in nbs/; run python .ci/readme.py' if old else 0)
    files = made(root)
    for k,v in files.items(): (root/k).parent.mkdir(exist_ok=True); (root/k).write_bytes(v)
    for k in unused(root, files): (root/k).unlink()
