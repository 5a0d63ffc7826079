"""After rendering: pages load nothing from other servers, and are easier to read. Quarto calls this (`post-render` in _quarto.yml).

Quarto adds jQuery and RequireJS, from a content delivery network, to each page with an HTML output, for widgets that
these pages do not have. A page that needs anything else from elsewhere fails the build.

A table of pandas whose index has a name has two header rows, of which the second holds that name alone: they become one.
A class of the page's own notebook is `__main__.Class` in a signature: the reader knows it as `Class`.
"""
import os
import re
import sys
from pathlib import Path

WIDGETS = re.compile(r'<script[^>]*src="https://cdnjs\.cloudflare\.com/[^"]*(?:require|jquery)[^"]*"[^>]*>\s*</script>\n?'
                     r'|<script[^>]*>\s*define\(.jquery.[^<]*</script>\n?')
ELSEWHERE = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="(https?://[^"]+)"|<link[^>]*rel="(?:stylesheet|preload|preconnect)"[^>]*href="(https?://[^"]+)"')


HEAD = re.compile(r'(<thead[^>]*>\s*)(<tr[^>]*>.*?</tr>)\s*(<tr[^>]*>.*?</tr>)(\s*</thead>)', re.S)
CELL = re.compile(r'<th[^>]*>.*?</th>', re.S)
MAIN = re.compile(r"\b__main__\.(?=[A-Za-z_])")


def words(cell): return re.sub('<[^>]*>', '', cell).strip()


def one_header(m):
    "Two header rows as one, if the second only names the index"
    upper, lower = CELL.findall(m[2]), CELL.findall(m[3])
    spans = 'colspan="' in m[2] + m[3] or 'rowspan="' in m[2] + m[3]
    if len(upper)!=len(lower) or spans or any(words(a) and words(b) for a,b in zip(upper[1:], lower[1:])): return m[0]
    cells = [b if words(b) else a for a,b in zip(upper, lower)]
    row = re.match(r'<tr[^>]*>', m[2])[0]
    return m[1] + row + '\n' + '\n'.join(cells) + '\n</tr>' + m[4]


def own(text):
    "A page without the scripts for widgets, with one header a table, and without the name of the notebook in signatures"
    return MAIN.sub('', HEAD.sub(one_header, WIDGETS.sub('', text)))


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
