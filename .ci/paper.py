"""The four parts of the report as one notebook, for one PDF: `python .ci/paper.py FOLDER`, then `quarto render FOLDER/paper.ipynb --to typst`.

Quarto's `include` takes .qmd files only (quarto-cli issue 10609) and `embed` takes outputs without their prose, so the parts
are joined here: saved outputs, nothing is executed. Links between the parts become links within the paper, those to other
pages links to the site.
"""
import json
import re
import shutil
import sys
from configparser import ConfigParser
from pathlib import Path

from fastcore.nbio import mk_cell

PARTS = '1_data', '2_methods', '3_results', '4_discussion'
HEAD = """---
title: "Heart rhythms from ECG charts"
subtitle: "Data, methods, results and discussion, computed from saved results"
format:
  typst:
    toc: true
    number-sections: true
    papersize: a4
bibliography: references.bib
csl: vancouver.csl
link-citations: true
execute:
  enabled: false
---"""

def lines(text):
    "A source as notebooks hold it: Quarto drops the newlines of one long string, and labels with them"
    return text.splitlines(keepends=True)

def site_link(part, target, site):
    "Address of a page on the site, which drops numbers from names"
    page, _, anchor = target.partition('#')
    inside = (Path('report')/page).as_posix()
    while '/../' in f'/{inside}': inside = re.sub(r'[^/]+/\.\./', '', inside, count=1)
    folder, _, name = inside.rpartition('/')
    name = re.sub(r'^[0-9]+[a-zA-Z0-9]*_', '', name.lower()).replace('.ipynb', '.html')
    return '/'.join(part for part in (site.rstrip('/'), folder, name) if part) + (f'#{anchor}' if anchor else '')

def joined_links(text, site):
    "Links of a part as links of the paper"
    def one(m):
        words, target = m[1], m[2]
        if re.match(r'[a-z]+:|#', target): return m[0]
        page, _, anchor = target.partition('#')
        if Path(page).stem in PARTS: return f'{words} (@{anchor})' if re.match('(fig|tbl)-', anchor) else f'[{words}](#sec-{Path(page).stem[2:]})'
        return f'[{words}]({site_link(page, target, site)})'
    return re.sub(r'(?<!!)\[([^\]]*)\]\(([^)\s]+)\)', one, text)

def join(root):
    "Cells of the four parts, a raw cell with the settings first"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    site, cells = ini['DEFAULT']['doc_url'], [dict(cell_type='raw', id='settings', metadata={}, source=lines(HEAD))]
    for part in PARTS:
        for i,c in enumerate(json.loads((root/f'nbs/report/{part}.ipynb').read_text())['cells']):
            text = ''.join(c['source'])
            if c['cell_type']=='code':
                if 'hide' in mk_cell(text, 'code').directives or not c['outputs']: continue
                if '#| echo:' not in text: text = f'#| echo: false\n{text}'
            else:
                text = joined_links(text, site)
                if i==0: text = re.sub(r'^# (.+)\n+> (.+)(?s:.*)', rf'# \1 {{#sec-{part[2:]}}}\n\n*\2*', text)
            cells.append(c | dict(source=lines(text), id=f"p{part[0]}-{c['id']}"))
    return dict(cells=cells, metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)

def make(root, out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out/'paper.ipynb').write_text(json.dumps(join(root), indent=1))
    for f in ('references.bib', 'vancouver.csl'): shutil.copy(root/'nbs'/f, out)
    return out/'paper.ipynb'

if __name__=='__main__':
    if len(sys.argv)!=2: sys.exit(__doc__)
    print(make(Path(__file__).resolve().parent.parent, sys.argv[1]))
