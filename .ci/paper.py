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
from html.parser import HTMLParser
from pathlib import Path

from fastcore.nbio import mk_cell

PARTS = '1_data', '2_methods', '3_results', '4_discussion'
HEAD = """---
title: "Heart rhythms from ECG charts"
subtitle: "Data, methods, results and discussion, computed from saved results"
author: "AUTHOR"
date: "DATE"
date-format: "D MMMM YYYY"
abstract: "ABSTRACT"
format:
  typst:
    toc: true
    toc-depth: 2
    number-sections: true
    papersize: a4
    margin:
      x: 2cm
      y: 2.5cm
    include-in-header:
      text: |
        #set table(inset: 3pt)
        #show table: set text(size: 9pt)
        #show table: set par(justify: false)
        #show figure: set block(breakable: true)
bibliography: references.bib
csl: vancouver.csl
link-citations: true
execute:
  enabled: false
---"""
CAPACITY = {9: 112, 8: 127, 7: 145, 6.2: 163} # characters on a line of 17 cm, by size of the letters in points

def lines(text):
    "A source as notebooks hold it: Quarto drops the newlines of one long string, and labels with them"
    return text.splitlines(keepends=True)

class Rows(HTMLParser):
    "The rows of a table in HTML: text of each cell, and how many of them are the header"
    def __init__(self, html):
        super().__init__()
        self.rows, self.header, self.spans, self.text = [], 0, {}, None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag=='tr': self.rows.append([])
        elif tag in ('td', 'th'): self.text, self.span = '', (int(a.get('colspan', 1)), int(a.get('rowspan', 1)))
        elif tag=='style': self.text = None

    def handle_data(self, data):
        if self.text is not None: self.text += data

    def handle_endtag(self, tag):
        if tag in ('td', 'th'): self.end_cell()
        elif tag=='thead': self.header = len(self.rows)

    def end_cell(self):
        "Put a cell where it belongs, also where it spans rows"
        row, n = self.rows[-1], len(self.rows)-1
        while (n, len(row)) in self.spans: row.append(self.spans.pop((n, len(row))))
        columns, down = self.span
        for k in range(1, down): self.spans[n+k, len(row)] = self.text.strip()
        row += [self.text.strip()]*columns
        self.text = None

def table_of(html):
    "Header and rows of a table of pandas; the row with names of the index is one with the header"
    r = Rows(html)
    width = max(map(len, r.rows))
    rows = [row + ['']*(width-len(row)) for row in r.rows]
    names = [list(dict.fromkeys(row[i] for row in rows[:r.header] if row[i])) for i in range(width)]
    names[0] = names[0][-1:] # of its two names, the one of the index
    return [', '.join(n) for n in names], rows[r.header:]

def is_number(text): return not re.search('[A-Za-z]{3}', text.replace(' to ', ''))

def size(text):
    "Width of a text in characters; capital letters are wide"
    return len(text) + sum(c.isupper() for c in text)//2

def widths(columns, numbers, capacity):
    "Characters for each column, or None if they do not fit: numbers stay on one line, words may be on several"
    wished = [max(map(size, c)) + 3 for c in columns]
    words = [max(size(w) for cell in c for w in cell.split() or ['']) + 3 for c in columns]
    least = [max(w, *(size(cell)+3 for cell in c[1:])) if n else w for c,n,w in zip(columns, numbers, words)]
    spare, wanted = capacity-sum(least), sum(wished)-sum(least)
    if spare < 0: return None
    return [n + round((w-n)*min(1, spare/max(wanted, 1))) for n,w in zip(least, wished)]

def pipe_table(head, rows):
    "A table in Markdown, and the size of its letters in points"
    columns = [[h, *(r[i] for r in rows)] for i,h in enumerate(head)]
    numbers = [i > 0 and all(map(is_number, c[1:])) for i,c in enumerate(columns)]
    for points,capacity in CAPACITY.items():
        if w := widths(columns, numbers, capacity): break
    else: raise ValueError(f'a table is too wide for a page: {", ".join(head)}')
    rule = ['-'*(n-1) + ':' if right else ':' + '-'*(n-1) for n,right in zip(w, numbers)]
    return '\n'.join('| ' + ' | '.join(r) + ' |' for r in [head, rule, *rows]), points

def escaped(cells): return [re.sub(r'([\\|<>*_$~^@#])', r'\\\1', c) for c in cells]

def cells_of(line): return [c.strip() for c in line.strip().strip('|').split('|')]

def table_in(output):
    "Head and rows of the table of an output, in Markdown, if there is one"
    data = output.get('data', {})
    if '<table' in (html := ''.join(data.get('text/html', ''))):
        head, rows = table_of(html)
        return escaped(head), list(map(escaped, rows))
    text = ''.join(data.get('text/markdown', '')).strip()
    if not text.startswith('| '): return None
    head, _, *rows = map(cells_of, text.splitlines())
    return head, rows

def plain_outputs(cell):
    "A cell with its tables set for the page, and the size of their letters: Quarto itself lets wide columns collide"
    outputs, points = [], max(CAPACITY)
    for o in cell['outputs']:
        if table := table_in(o):
            text, points = pipe_table(*table)
            o = o | dict(data={'text/markdown': lines(text)})
        outputs.append(o)
    return cell | dict(outputs=outputs), points

def raw_typst(text, id): return dict(cell_type='markdown', id=id, metadata={}, source=lines(f'```{{=typst}}\n{text}\n```'))

def sized(cell, points):
    "The cell, with smaller letters around it if its table is wide"
    if points==max(CAPACITY): return [cell]
    small = f'#[\n#show table: set text(size: {points}pt)'
    return [raw_typst(small, cell['id'] + '-small'), cell, raw_typst(']', cell['id'] + '-end')]

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

def abstract(root):
    "What was done and found, with numbers from the saved results"
    from ecg_arrhythmia import evaluate
    from ecg_arrhythmia.evaluation.compare import over_seeds
    from ecg_arrhythmia.reporting import Results
    R = Results(root/'nbs/report/results')
    def score(m): return f"{m['macro_f1']:.2f}"
    def seeds(pattern): return score(over_seeds(R.predictions(pattern)))
    test = evaluate(R.predictions('search/test.csv')[0])
    return (
        'A network for images classifies 12-lead ECG charts into four classes of heart rhythm. It is trained and tested on '
        f"{R.study['data']['recordings']:,} recordings of three days of the Chapman-Shaoxing database, which are not a "
        'random sample. In five-fold cross-validation, the charts and the recipe of a published study reach a macro-F1 of '
        f"{seeds('accuracy/study-[0-9]*.csv')} at a small budget, and this project's default reaches "
        f"{seeds('accuracy/default-[0-9]*.csv')}. Gradient boosting on measurements of the signal, without any chart, "
        f"reaches {seeds('accuracy/signal-[0-9]*.csv')}. After a search of hyperparameters, the hold-out of "
        f"{test['n']} recordings gives {score(test)}. On recordings of another hospital (PTB-XL) the default falls to "
        f"{seeds('evaluation/ptbxl-*.csv')}: scores at home say nothing about another hospital. Maps of where the network "
        'looked are measured for their fidelity. All numbers are computed from saved results. This is research software '
        'and not a medical device.')

def settings(root):
    "The first cell: title page and format"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    study = json.loads((root/'nbs/report/results/study.json').read_text())
    head = HEAD.replace('AUTHOR', ini['DEFAULT']['author']).replace('DATE', study['date'])
    return dict(cell_type='raw', id='settings', metadata={}, source=lines(head.replace('ABSTRACT', abstract(root))))

def is_banner(cell):
    "Does it tell which data a page is about?"
    return any('.callout-' in ''.join(o.get('data', {}).get('text/markdown', '')) for o in cell['outputs'])

def is_state(cell):
    "Does it tell the state of the results? All parts have the same, and the paper tells it once, at its end"
    text = ''.join(cell['source'])
    return text.startswith('## State of the results') or 'results_digest(results)' in text and 'import' not in text

def code_cells(cell, first):
    "The cells of the paper for a cell of code: none without output; the banner of the data only in the first part"
    text = ''.join(cell['source'])
    if 'hide' in mk_cell(text, 'code').directives or not cell['outputs'] or is_banner(cell) and not first: return []
    if '#| echo:' not in text: text = f'#| echo: false\n{text}'
    return sized(*plain_outputs(cell | dict(source=lines(text))))

def markdown_cell(cell, part, first, site):
    "A cell of prose, with links within the paper; the first one of a part is its heading"
    text = joined_links(''.join(cell['source']), site)
    if first: text = re.sub(r'^# (.+)\n+> (.+)(?s:.*)', rf'# \1 {{#sec-{part[2:]}}}\n\n*\2*', text)
    return cell | dict(source=lines(text))

def join(root):
    "Cells of the four parts, a raw cell with the settings first"
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    cells = [settings(root)]
    for part in PARTS:
        for i,c in enumerate(json.loads((root/f'nbs/report/{part}.ipynb').read_text())['cells']):
            if part!=PARTS[-1] and is_state(c): continue
            c = c | dict(id=f"p{part[0]}-{c['id']}")
            if c['cell_type']=='code': cells += code_cells(c, part==PARTS[0])
            else: cells.append(markdown_cell(c, part, i==0, ini['DEFAULT']['doc_url']))
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
