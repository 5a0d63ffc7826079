"""The local page in a real browser: files chosen and dropped, chart, calipers, table, what is asked of the
network, bad files, a telephone; a page on paper

Chromium is driven through its DevTools protocol. Hosts but this one do not resolve for it. Set CHROMIUM to
its path where it is not found.
"""
import base64, itertools, json, os, re, shutil, subprocess, threading, time
from pathlib import Path

import numpy as np, pytest

websocket = pytest.importorskip('websocket', reason='websocket-client, which comes with JupyterLab, is not installed')
CHROMIUM = os.environ.get('CHROMIUM') or next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='no chromium is installed (or name it in CHROMIUM)')

from ecg_arrhythmia.prediction.runtime import load_model
from ecg_arrhythmia.prediction.answer import predict
from ecg_arrhythmia.prediction.pages import save_page
from ecg_arrhythmia.data.recordings import LEADS, Recording
from ecg_arrhythmia.data.tables import to_csv_bytes
from ecg_arrhythmia.prediction.server import serve
from ecg_arrhythmia.data.simulation import simulate

SR = simulate('SR', seed=3)

class Browser:
    "One tab, and the frames in it; what it said while it worked is in `events`"
    def __init__(self, folder):
        command = [
            CHROMIUM,
            '--headless=new',
            '--no-sandbox',
            '--disable-gpu',
            '--disable-dev-shm-usage',
            '--no-first-run',
            '--disable-extensions',
            '--disable-background-networking',
            '--disable-component-update',
            '--disable-sync',
            '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
            '--remote-allow-origins=*',
            '--remote-debugging-port=0',
            f'--user-data-dir={folder}',
            'about:blank',
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        said = folder/'DevToolsActivePort'
        wait(lambda: said.is_file() and said.read_text().count('\n'), 60, 'the browser to start')
        port, way = said.read_text().split('\n')[:2]
        self.ws, self.ids, self.events, self.frames = (
            websocket.create_connection(f'ws://127.0.0.1:{port}{way}', timeout=60),
            itertools.count(1),
            [],
            {},
        )
        target = self.call('Target.createTarget', url='about:blank', browser=True)['targetId']
        self.tab = self.call('Target.attachToTarget', targetId=target, flatten=True, browser=True)['sessionId']
        self.listen(self.tab)
    def listen(self, session):
        for d in ('Page', 'Runtime', 'Network', 'Log', 'DOM'): self.call(f'{d}.enable', session=session)
        self.call('Target.setAutoAttach', session=session, autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
    def call(self, method, session=None, browser=False, **params):
        i = next(self.ids)
        self.ws.send(
            json.dumps(
                dict(id=i, method=method, params=params)
                | ({} if browser else dict(sessionId=session or self.tab))
            )
        )
        while (m := json.loads(self.ws.recv())).get('id')!=i: self.note(m)
        assert 'error' not in m, (method, m['error'])
        return m['result']
    def note(self, m):
        if m.get('method') == 'Target.attachedToTarget' and m['params']['targetInfo']['type'] == 'iframe':
            self.frames[m['params']['sessionId']] = None
        if m.get('method')=='Target.detachedFromTarget': self.frames.pop(m['params']['sessionId'], None)
        if 'method' in m: self.events.append(m)
    def js(self, code):
        return self.call('Runtime.evaluate', expression=code, returnByValue=True, awaitPromise=True)[
            'result'
        ].get('value')
    def close(self):
        try: self.call('Browser.close', browser=True)
        except Exception: pass
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()
        self.ws.close()
    def of(self, *methods): return [e['params'] for e in self.events if e['method'] in methods]
    def errors(self):
        "What stands in the console, and requests that failed"
        return (
            [
                e['entry']['text']
                for e in self.of('Log.entryAdded')
                if e['entry']['level'] in ('error', 'warning')
            ]
            + [e['exceptionDetails']['text'] for e in self.of('Runtime.exceptionThrown')]
            + [
                str(e['args'])
                for e in self.of('Runtime.consoleAPICalled')
                if e['type'] in ('error', 'warning', 'assert')
            ]
        )

def wait(f, seconds, what):
    end = time.monotonic()+seconds
    while not (found := f()):
        assert time.monotonic()<end, f'waited {seconds} s for {what}'
        time.sleep(.05)
    return found

@pytest.fixture(scope='module')
def model(tmp_path_factory):
    "A model folder of both runtimes; its networks know nothing"
    from test_fuzz_formats import small_models
    from ecg_arrhythmia.prediction.model_folder import seal
    folder = tmp_path_factory.mktemp('browser')/'model'
    folder.mkdir()
    (facts, small), (_, large) = small_models(folder)
    files = small | large
    for n,b in files.items(): (folder/n).write_bytes(b)
    (folder/'model.json').write_text(json.dumps(seal(facts, files)))
    return load_model(folder)

@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    b = Browser(tmp_path_factory.mktemp('chromium'))
    yield b
    b.close()

@pytest.fixture(scope='module')
def url(model):
    s = serve(model, 0)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield s.url
    s.shutdown(); s.server_close()

@pytest.fixture
def tab(browser, url):
    "The page, fresh, and nothing noted so far"
    browser.call('Emulation.clearDeviceMetricsOverride')
    browser.call('Page.navigate', url='about:blank')
    browser.frames.clear()
    browser.call('Page.navigate', url=url)
    wait(
        lambda: browser.js("document.readyState") == 'complete'
        and browser.js('location.href') == url
        and browser.js("typeof read") == 'function',
        20,
        'the page',
    )
    browser.events.clear()
    return browser

def choose(tab, *files):
    "Choose files, as by the button"
    root = tab.call('DOM.getDocument')['root']['nodeId']
    box = tab.call('DOM.querySelector', nodeId=root, selector='#files')['nodeId']
    tab.call('DOM.setFileInputFiles', nodeId=box, files=list(map(str, files)))

def text_of(tab, id): return re.sub(r'\s+', ' ', tab.js(f"document.getElementById('{id}').innerText") or '').strip()
def click(tab, id): tab.js(f"document.getElementById('{id}').click()")
def is_shown(tab, id): return tab.js(f"document.getElementById('{id}').offsetParent!==null")

def answered(tab, n=1):
    "What the page says beside the answers, once there are `n`, and the chart of the one that is shown"
    ready = f"answers.length=={n} && document.getElementById('progress').hidden"
    wait(lambda: tab.js(ready), 60, 'an answer')
    if tab.js('!shown.error'): wait(lambda: tab.js("!!document.querySelector('#chart svg')"), 30, 'the chart')
    return text_of(tab, 'said')

def only_here(tab, url):
    asked = [e['request']['url'] for e in tab.of('Network.requestWillBeSent')]
    assert any(u==url+'predict' for u in asked) and all(u.startswith((url, 'data:', 'about:')) for u in asked), asked
    assert not tab.of('Network.loadingFailed') and not tab.of('Network.webSocketCreated')

def test_a_file_is_chosen(tab, url, model, tmp_path):
    (f := tmp_path/'mine.csv').write_bytes(to_csv_bytes(SR))
    choose(tab, f)
    assert answered(tab)==''
    a = predict(f, model)
    words = text_of(tab, 'answer')
    assert (
        a.rhythm
        and f'{a.rhythm}: {a.title}' in words
        and f"{a.heart['rate']:.0f} / min" in words
        and f'Status: {a.status}' in words
    )
    assert 'SIMULATED' in text_of(tab, 'model')
    for c,p in a.probabilities.items(): assert f'{100*p:.1f} %' in words, c
    for finding in a.findings: assert re.sub(r'\s+', ' ', finding.text) in words
    wide = json.loads(
        tab.js(
            "(r => JSON.stringify([r.width, r.height]))(document.querySelector('#chart svg').getBoundingClientRect())"
        )
    )
    assert min(wide) > 200 and not is_shown(tab, 'list') and not is_shown(tab, 'window')
    only_here(tab, url)
    assert tab.errors()==[]

def test_what_spoke_for_it(tab, model, tmp_path):
    (f := tmp_path/'mine.csv').write_bytes(to_csv_bytes(SR))
    choose(tab, f)
    answered(tab)
    click(tab, 'why')
    wait(lambda: 'Orange spoke for the answer' in text_of(tab, 'legend'), 60, 'the tints')
    assert tab.js("document.getElementById('why').getAttribute('aria-pressed')")=='true' and tab.errors()==[]

def drag(tab, a, b):
    "Press at one place of the chart and let go at another; places in shares of its size"
    x, y, w, h = json.loads(
        tab.js(
            "(r => JSON.stringify([r.x, r.y, r.width, r.height]))(document.querySelector('#chart svg').getBoundingClientRect())"
        )
    )
    for kind,(u,v) in (('mousePressed', a), ('mouseMoved', b), ('mouseReleased', b)):
        tab.call('Input.dispatchMouseEvent', type=kind, x=x+u*w, y=y+v*h, button='left', buttons=1, clickCount=1)

def test_zoom_and_calipers(tab, tmp_path):
    (f := tmp_path/'mine.csv').write_bytes(to_csv_bytes(SR))
    choose(tab, f)
    answered(tab)
    tab.js("document.getElementById('chart').scrollIntoView()")
    whole = tab.js('box.w')
    click(tab, 'closer')
    assert tab.js('box.w')==pytest.approx(whole/1.5)
    at = tab.js('box.x')
    drag(tab, (.8, .5), (.4, .5))
    assert tab.js('box.x') > at # it was moved
    click(tab, 'whole')
    assert tab.js('box.w')==pytest.approx(whole)
    click(tab, 'calipers')
    drag(tab, (.3, .3), (.3+25/whole, .3+.2)) # 25 mm are a second
    said = text_of(tab, 'measured')
    ms, mv = re.match(r'(\d+) ms = \d+ / min, ([\d.]+) mV', said).groups()
    assert abs(int(ms)-1000) < 25 and float(mv)==pytest.approx(.2*tab.js('box.h')/10, abs=.05), said
    click(tab, 'calipers')
    assert text_of(tab, 'measured')=='' and tab.errors()==[]

def test_layouts_and_windows(tab, tmp_path):
    (f := tmp_path/'long.csv').write_bytes(to_csv_bytes(simulate('SR', seed=3, seconds=20)))
    choose(tab, f)
    answered(tab)
    assert is_shown(tab, 'window')
    for layout,cells in (('6x2', 12), ('12x1', 12), ('3x4+1', 13)):
        tab.js(f"document.getElementById('layout').value = '{layout}'; document.getElementById('layout').onchange()")
        wait(lambda: tab.js("document.querySelectorAll('#chart [data-lead]').length")==cells, 20, layout)
    before = tab.js("document.querySelector('#chart [data-lead]').getAttribute('d')")
    tab.js("document.getElementById('start').selectedIndex = 1; document.getElementById('start').onchange()")
    wait(lambda: tab.js("document.querySelector('#chart [data-lead]').getAttribute('d')")!=before, 20, 'the other window')
    assert tab.errors()==[]

def test_several_are_a_table(tab, url, model, tmp_path):
    for r in ('SR', 'ST', 'SB'): (tmp_path/f'{r}.csv').write_bytes(to_csv_bytes(simulate(r, seed=2)))
    (tmp_path/'bad.csv').write_bytes(to_csv_bytes(SR)[:3000] + b',,what')
    tab.js("document.getElementById('clear').click()") # what earlier tests asked
    choose(tab, *sorted(tmp_path.glob('*.csv')))
    answered(tab, 4)
    rows = tab.js("[...document.querySelectorAll('#rows tr')].map(r => r.innerText).join('\\n')")
    assert is_shown(tab, 'list') and rows.count('unreadable')==1 and 'bad.csv, row 42' in rows and '/tmp' not in rows
    assert tab.js("document.querySelectorAll('#rows tr').length")==4
    tab.js("document.querySelectorAll('#rows tr')[2].click()")
    wait(lambda: 'ST' in text_of(tab, 'sure'), 60, 'the other answer')
    table = tab.js("fetch('table.csv').then(r => r.text())")
    assert table.count('\n')==4 and table.startswith('file,status,rhythm')
    click(tab, 'clear')
    wait(lambda: tab.js('answers.length')==0 and not is_shown(tab, 'answer'), 60, 'an empty page')

def test_files_are_dropped(tab, url, model, tmp_path):
    "A header with its signal, by the hand"
    wfdb = pytest.importorskip('wfdb')
    wfdb.wrsamp('r', 500, ['mV']*12, list(LEADS), SR.signal.T.astype(float), fmt=['16']*12, write_dir=str(tmp_path))
    x, y = json.loads(
        tab.js(
            "(r => JSON.stringify([r.x+30, r.y+10]))(document.getElementById('drop').getBoundingClientRect())"
        )
    )
    data = dict(items=[], files=[str(tmp_path/'r.hea'), str(tmp_path/'r.dat')], dragOperationsMask=1)
    for kind in ('dragEnter', 'dragOver', 'drop'): tab.call('Input.dispatchDragEvent', type=kind, x=x, y=y, data=data)
    assert answered(tab)=='' and f'{predict(tmp_path/"r.hea", model).rhythm}: ' in text_of(tab, 'rhythm')
    only_here(tab, url)
    assert tab.errors()==[]

def test_the_example(tab):
    click(tab, 'example')
    assert answered(tab)=='' and 'simulated' in text_of(tab, 'sure') and tab.errors()==[]

def test_a_bad_file_is_told(tab, url, tmp_path):
    (bad := tmp_path/'bad.csv').write_bytes(to_csv_bytes(SR)[:3000] + b',,what')
    choose(tab, bad)
    said = answered(tab)
    assert 'bad.csv, row 42' in said and '/tmp' not in said and not is_shown(tab, 'answer')
    assert tab.js("getComputedStyle(document.getElementById('said')).color")=='rgb(160, 0, 0)'
    assert [e for e in tab.errors() if '400' not in e]==[] # that the server said no is noted by the browser itself

def test_names_cannot_become_elements(tab, tmp_path):
    (f := tmp_path/'<img src=x onerror=alert(1)>.csv').write_bytes(to_csv_bytes(SR))
    choose(tab, f)
    answered(tab)
    assert tab.js("document.querySelectorAll('img').length")==0 and '<img' in text_of(tab, 'sure') and tab.errors()==[]

def test_on_a_telephone(tab, tmp_path):
    tab.call('Emulation.setDeviceMetricsOverride', width=390, height=844, deviceScaleFactor=2, mobile=True)
    (f := tmp_path/('a long name '*8+'.csv')).write_bytes(to_csv_bytes(SR))
    choose(tab, f)
    assert answered(tab)==''
    wide = ('JSON.stringify([innerWidth, document.documentElement.scrollWidth, ...[...document.querySelectorAll("main > '
            '*, .tools, #chart, .save > *, table")].map(e => e.getBoundingClientRect().right)])')
    room, page_wide, *edges = json.loads(tab.js(wide))
    assert room <= 390 and page_wide <= room and max(edges) <= room + .5, (room, page_wide, max(edges))

def sheets(tab, html, paper):
    tab.call('Page.navigate', url=html.as_uri())
    wait(lambda: tab.js('document.readyState')=='complete' and tab.js('location.href')==html.as_uri(), 20, 'the page')
    pdf = base64.b64decode(
        tab.call(
            'Page.printToPDF',
            preferCSSPageSize=True,
            printBackground=True,
            paperWidth=paper[0],
            paperHeight=paper[1],
        )['data']
    )
    return len(re.findall(rb'/Type\s*/Page\b', pdf)), [
        tuple(round(float(v) / 72, 1) for v in m.split()[2:])
        for m in re.findall(rb'/MediaBox\s*\[([^]]*)\]', pdf)
    ]

def test_an_answer_is_one_sheet_of_paper(browser, model, tmp_path):
    "One with far more to say than usual takes a second, and so does an explanation"
    still = SR.signal.copy(); still[1], still[7] = 0, np.nan
    swapped = SR.signal[[1, 0, *range(2, 12)]]*np.where(np.arange(12)==5, 9, 1)[:,None]
    noise = np.random.default_rng(0).normal(0, .4, (12, 5000))
    many = np.concatenate(
        [s for r in ('SB', 'ST', 'AFIB') for s in [simulate(r, seed=4).signal] * 4] + [noise, swapped, still],
        1,
    )
    plain, gaps, much = (
        predict(SR, model),
        predict(Recording(still, check=False), model),
        predict(Recording(many, name='long name ' * 9, check=False), model),
    )
    much.windows *= 4 # more stretches than are listed
    assert len(much.findings) >= 5 and len(much.windows) > 40
    for answer,explanation,n in ((plain, '', {1}), (gaps, '', {1}), (much, '', {1, 2}), (plain, '<h2>Explained</h2>', {2})):
        html = save_page(answer, tmp_path/'a.html', explanation)
        for paper in ((8.27, 11.69), (8.5, 11)): # A4, Letter
            count, sizes = sheets(browser, html, paper)
            assert count in n and sizes[0][0] > sizes[0][1], (answer, paper, count, sizes)
