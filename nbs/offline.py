"""After rendering: pages load nothing from other servers. Quarto calls this (`post-render` in _quarto.yml).

Quarto adds jQuery and RequireJS, from a content delivery network, to each page with an HTML output, for widgets that
these pages do not have. A page that needs anything else from elsewhere fails the build.
"""
import os
import re
import sys
from pathlib import Path

WIDGETS = re.compile(r'<script[^>]*src="https://cdnjs\.cloudflare\.com/[^"]*(?:require|jquery)[^"]*"[^>]*>\s*</script>\n?'
                     r'|<script[^>]*>\s*define\(.jquery.[^<]*</script>\n?')
ELSEWHERE = re.compile(r'<(?:script|img|iframe)[^>]*\ssrc="(https?://[^"]+)"|<link[^>]*rel="(?:stylesheet|preload|preconnect)"[^>]*href="(https?://[^"]+)"')


def own(text):
    "A page without the scripts for widgets"
    return WIDGETS.sub('', text)


def main(folder):
    faults = []
    for page in sorted(Path(folder).rglob('*.html')):
        text = page.read_text(encoding='utf-8')
        mended = own(text)
        if mended != text: page.write_text(mended, encoding='utf-8')
        faults += [f'{page}: loads {a or b} from another server' for a,b in ELSEWHERE.findall(mended)]
    for style in Path(folder).rglob('*.css'):
        for address in re.findall(r'@import\s+(?:url\()?["\']?(https?://[^"\')]+)', style.read_text(encoding='utf-8', errors='replace')):
            faults.append(f'{style}: loads {address} from another server')
    sys.exit('\n'.join(faults) or 0)


if __name__=='__main__': main(sys.argv[1] if len(sys.argv) > 1 else os.environ['QUARTO_PROJECT_OUTPUT_DIR'])
