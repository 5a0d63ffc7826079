"""After rendering: pages load nothing from other servers, and are easier to read. Quarto calls this (`post-render` in _quarto.yml).

Quarto adds jQuery and RequireJS, from a content delivery network, to each page with an HTML output, for widgets that
these pages do not have. A page that needs anything else from elsewhere fails the build.

A table of pandas whose index has a name has two header rows, of which the second holds that name alone: they become one.
A column of whole numbers in which one is missing is shown by pandas as 911.0 and NaN: it becomes 911 and an empty cell.
A class of the page's own notebook is `__main__.Class` in a signature: the reader knows it as `Class`.
"""
import os
import re
import sys
from pathlib import Path

WIDGETS = re.compile(r'<script[^>]*src="https://cdnjs\.cloudflare\.com/[^"]*(?:require|jquery)[^"]*"[^>]*>\s*</script>\n?'
                     r'|<script[^>]*>\s*define\(.jquery.[^<]*</script>\n?')
ELSEWHERE = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="(https?://[^"]+)"|<link[^>]*rel="(?:stylesheet|preload|preconnect)"[^>]*href="(https?://[^"]+)"')


HEAD = re.compile(r'<thead[^>]*>.*?</thead>', re.S)
ROW = re.compile(r'(<tr[^>]*>)(.*?)</tr>', re.S)
CELL = re.compile(r'<t[hd][^>]*>.*?</t[hd]>', re.S)
TABLE = re.compile(r'<table[^>]*class="[^"]*dataframe[^>]*>.*?</table>', re.S)
WHOLE = re.compile(r'(?<![\d.])(-?\d[\d,]*)\.0(?!\d)')
MAIN = re.compile(r"\b__main__\.(?=[A-Za-z_])")


def words(cell): return re.sub('<[^>]*>', '', cell).strip()


def one_header(m):
    "The header of a table without its last row, if that only names the index: the names go into the row above"
    rows = ROW.findall(m[0])
    if len(rows) < 2 or 'rowspan' in m[0]: return m[0]
    (start, above), (_, last) = rows[-2:]
    upper, lower = CELL.findall(above), CELL.findall(last)
    named = [i for i,cell in enumerate(lower) if words(cell)]
    same = len(upper)==len(lower) and 'colspan' not in above + last
    if not same or not named or len(named)==len(lower) or any(words(upper[i]) for i in named if i): return m[0]
    if words(upper[0]) and len(rows) > 2: return m[0] # the name of a level of columns, which is needed
    cells = [lower[i] if i in named else cell for i,cell in enumerate(upper)]
    rows = [f'{tr}{inner}</tr>' for tr,inner in rows[:-2]] + [start + '\n'.join(cells) + '</tr>']
    return '<thead>\n' + '\n'.join(rows) + '\n</thead>'


def is_whole(column):
    "Are these the counts or milliseconds that pandas shows as 911.0? Shares, which are at most 1, are not"
    numbers = [words(c) for c in column if words(c) not in ('', 'NaN')]
    return all(map(WHOLE.fullmatch, numbers)) and any(abs(float(n.replace(',', ''))) > 1 for n in numbers)


def whole_numbers(table):
    "A table whose columns of 911.0 and the like hold 911"
    head, end, body = table.partition('</thead>')
    rows = [CELL.findall(inner) for _,inner in ROW.findall(body)]
    if len({len(r) for r in rows}) != 1: return table
    whole = [is_whole(column) for column in zip(*rows)]
    def shown(row):
        cells = [WHOLE.sub(r'\1', c) if w else c for c,w in zip(CELL.findall(row[2]), whole)]
        return row[1] + '\n' + '\n'.join(cells) + '\n</tr>'
    return head + end + ROW.sub(shown, body)


def readable(m):
    "A table of pandas with one header, whole numbers without decimals, and names that may break after an underscore"
    table = whole_numbers(HEAD.sub(one_header, m[0]))
    return re.sub(r'<th[^>]*>[^<]*</th>', lambda th: th[0].replace('_', '_<wbr>'), table)


def own(text):
    "A page without the scripts for widgets, with tables for readers, and without the name of the notebook in signatures"
    text = MAIN.sub('', TABLE.sub(readable, WIDGETS.sub('', text)))
    blank = re.sub('(<td[^>]*>)NaN(?=</td>)', r'\1', text)
    return text if 'NaN' in blank else blank # a page that speaks of NaN shows it


def main(folder):
    faults = []
    for page in sorted(Path(folder).rglob('*.html')):
        text = page.read_text(encoding='utf-8')
        mended = own(text)
        if mended != text: page.write_text(mended, encoding='utf-8')
        faults += [f'{page}: loads {a or b} from another server' for a,b in ELSEWHERE.findall(mended)]
    for page in [*Path(folder).rglob('*.md'), *Path(folder).glob('search.json')]:
        text = page.read_text(encoding='utf-8')
        if MAIN.search(text): page.write_text(MAIN.sub('', text), encoding='utf-8')
    for style in Path(folder).rglob('*.css'):
        for address in re.findall(r'@import\s+(?:url\()?["\']?(https?://[^"\')]+)', style.read_text(encoding='utf-8', errors='replace')):
            faults.append(f'{style}: loads {address} from another server')
    sys.exit('\n'.join(faults) or 0)


if __name__=='__main__': main(sys.argv[1] if len(sys.argv) > 1 else os.environ['QUARTO_PROJECT_OUTPUT_DIR'])
