"""The local page in a real browser: a file put in and one dropped, what is shown, what is asked of the network, a bad file, a telephone; a page on paper

Chromium is driven through its DevTools protocol. Hosts but this one do not resolve for it. Set CHROMIUM to its path where it is not found.
"""
import base64, itertools, json, os, re, shutil, subprocess, threading, time
from pathlib import Path

import numpy as np, pytest

websocket = pytest.importorskip('websocket', reason='websocket-client, which comes with JupyterLab, is not installed')
CHROMIUM = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
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
        command = [CHROMIUM, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-extensions', '--disable-background-networking', '--disable-component-update', '--disable-sync',
            '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', '--remote-allow-origins=*', '--remote-debugging-port=0', f'--user-data-dir={folder}', 'about:blank']
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        said = folder/'DevToolsActivePort'
        wait(lambda: said.is_file() and said.read_text().count('\n'), 60, 'the browser to start')
        port, way = said.read_text().split('\n')[:2]
        self.ws, self.ids, self.events, self.frames = websocket.create_connection(f'ws://127.0.0.1:{port}{way}', timeout=60), itertools.count(1), [], {}
        target = self.call('Target.createTarget', url='about:blank', browser=True)['targetId']
        self.tab = self.call('Target.attachToTarget', targetId=target, flatten=True, browser=True)['sessionId']
        self.listen(self.tab)
    def listen(self, session):
        for d in ('Page', 'Runtime', 'Network', 'Log', 'DOM'): self.call(f'{d}.enable', session=session)
        self.call('Target.setAutoAttach', session=session, autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
    def call(self, method, session=None, browser=False, **params):
        i = next(self.ids)
        self.ws.send(json.dumps(dict(id=i, method=method, params=params) | ({} if browser else dict(sessionId=session or self.tab))))
        while (m := json.loads(self.ws.recv())).get('id')!=i: self.note(m)
        assert 'error' not in m, (method, m['error'])
        return m['result']
    def note(self, m):
        if m.get('method')=='Target.attachedToTarget' and m['params']['targetInfo']['type']=='iframe': self.frames[m['params']['sessionId']] = None
        if m.get('method')=='Target.detachedFromTarget': self.frames.pop(m['params']['sessionId'], None)
        if 'method' in m: self.events.append(m)
    def js(self, code): return self.call('Runtime.evaluate', expression=code, returnByValue=True, awaitPromise=True)['result'].get('value')
    def close(self):
        try: self.call('Browser.close', browser=True)
        except Exception: pass
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()
        self.ws.close()
    def of(self, *methods): return [e['params'] for e in self.events if e['method'] in methods]
    def errors(self):
        "What stands in the console, and requests that failed"
        return ([e['entry']['text'] for e in self.of('Log.entryAdded') if e['entry']['level'] in ('error', 'warning')] + [e['exceptionDetails']['text'] for e in self.of('Runtime.exceptionThrown')]
              + [str(e['args']) for e in self.of('Runtime.consoleAPICalled') if e['type'] in ('error', 'warning', 'assert')])
    def frame(self, code):
        "Of the frame with the answer; `sandbox` keeps its scripts from running, not ours"
        wait(lambda: self.js('1') and self.frames, 10, 'the frame')
        return self.call('Runtime.evaluate', session=list(self.frames)[-1], expression=code, returnByValue=True)['result'].get('value')

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
    yield 'http://127.0.0.1:{}/'.format(s.server_address[1])
    s.shutdown(); s.server_close()

@pytest.fixture
def tab(browser, url):
    "The page, fresh, and nothing noted so far"
    browser.call('Emulation.clearDeviceMetricsOverride')
    browser.call('Page.navigate', url='about:blank')
    browser.frames.clear()
    browser.call('Page.navigate', url=url)
    wait(lambda: browser.js("document.readyState")=='complete' and browser.js('location.href')==url and browser.js("typeof send")=='function', 20, 'the page')
    browser.events.clear()
    return browser

def choose(tab, *files):
    root = tab.call('DOM.getDocument')['root']['nodeId']
    box = tab.call('DOM.querySelector', nodeId=root, selector='#file')['nodeId']
    tab.call('DOM.setFileInputFiles', nodeId=box, files=list(map(str, files)))

def answered(tab):
    "What the page says beside the answer, once there is one"
    done = "document.getElementById('said').textContent!='Looking ...' && (document.getElementById('said').textContent || document.getElementById('answer').srcdoc.length>0)"
    wait(lambda: tab.js(done), 60, 'an answer')
    return tab.js("document.getElementById('said').textContent")

def shown(tab, has=''):
    "The words of the answer"
    wait(lambda: tab.frame("document.readyState=='complete' && document.images.length>0 && [...document.images].every(i => i.complete)") and has in tab.frame('document.body.innerText'), 20, f'the answer to be drawn, with {has!r}')
    return re.sub(r'\s+', ' ', tab.frame('document.body.innerText'))

def only_here(tab, url):
    asked = [e['request']['url'] for e in tab.of('Network.requestWillBeSent')]
    assert any(u==url+'predict' for u in asked) and all(u.startswith((url, 'data:', 'about:')) for u in asked), asked
    assert not tab.of('Network.loadingFailed') and not tab.of('Network.webSocketCreated')

def test_a_file_is_put_in(tab, url, model, tmp_path):
    (f := tmp_path/'mine.csv').write_bytes(to_csv_bytes(SR))
    choose(tab, f)
    assert answered(tab)==''
    a, words = predict(f, model), shown(tab)
    assert a.rhythm and f'{a.rhythm}: {a.title} ({a.probabilities[a.rhythm]:.0%})' in words and 'SIMULATED' in words and f"{a.heart['rate']:.0f} / min" in words and f'Status: {a.status}' in words
    for c,p in a.probabilities.items(): assert f'{c} {p:.1%}' in words
    for finding in a.findings: assert finding.text in words
    chart = tab.frame('JSON.stringify([...document.images].map(i => [i.alt, i.naturalWidth, i.naturalHeight, i.getBoundingClientRect().width]))')
    assert [i[0] for i in json.loads(chart)]==['ECG chart'] and min(json.loads(chart)[0][1:]) > 300
    tab.js("document.getElementById('explain').click()") # asks again, for the file that is there
    answered(tab)
    assert 'Share of each lead' in shown(tab, 'Share of each lead')
    images = json.loads(tab.frame('JSON.stringify([...document.images].map(i => [i.alt, i.naturalWidth]))'))
    assert [i[0] for i in images]==['ECG chart', *['explanation']*len(model.canvases)] and all(i[1] > 300 for i in images)
    only_here(tab, url)
    assert tab.errors()==[]

def test_files_are_dropped(tab, url, model, tmp_path):
    "A header with its signal, by the hand"
    wfdb = pytest.importorskip('wfdb')
    wfdb.wrsamp('r', 500, ['mV']*12, list(LEADS), SR.signal.T.astype(float), fmt=['16']*12, write_dir=str(tmp_path))
    x, y = json.loads(tab.js("(r => JSON.stringify([r.x+30, r.y+10]))(document.getElementById('drop').getBoundingClientRect())"))
    data = dict(items=[], files=[str(tmp_path/'r.hea'), str(tmp_path/'r.dat')], dragOperationsMask=1)
    for kind in ('dragEnter', 'dragOver', 'drop'): tab.call('Input.dispatchDragEvent', type=kind, x=x, y=y, data=data)
    assert answered(tab)=='' and f'{predict(tmp_path/"r.hea", model).rhythm}: ' in shown(tab)
    only_here(tab, url)
    assert tab.errors()==[]

def test_a_bad_file_is_told(tab, url, tmp_path):
    (good := tmp_path/'good.csv').write_bytes(to_csv_bytes(SR))
    (bad := tmp_path/'bad.csv').write_bytes(to_csv_bytes(SR)[:3000] + b',,what')
    choose(tab, good); answered(tab)
    choose(tab, bad)
    said = answered(tab)
    assert 'bad.csv, row 42' in said and '/tmp' not in said and tab.js("document.getElementById('answer').srcdoc")==''
    assert tab.js("getComputedStyle(document.getElementById('said')).color")=='rgb(160, 0, 0)'
    assert [e for e in tab.errors() if '400' not in e]==[] # that the server said no is noted by the browser itself
    choose(tab, good)
    assert answered(tab)=='' and 'Probabilities' in shown(tab)

def test_on_a_telephone(tab, tmp_path):
    tab.call('Emulation.setDeviceMetricsOverride', width=390, height=844, deviceScaleFactor=2, mobile=True)
    (f := tmp_path/('a long name '*8+'.csv')).write_bytes(to_csv_bytes(SR))
    tab.js("document.getElementById('explain').checked = true")
    choose(tab, f)
    assert answered(tab)==''
    shown(tab, 'Share of each lead')
    wide = 'JSON.stringify([innerWidth, document.documentElement.scrollWidth, ...[...document.querySelectorAll("body *")].map(e => e.getBoundingClientRect().right)])'
    for look in (tab.js, tab.frame):
        room, page_wide, *edges = json.loads(look(wide))
        assert room <= 390 and page_wide <= room and max(edges) <= room + .5, (room, page_wide, max(edges))

def sheets(tab, html, paper):
    tab.call('Page.navigate', url=html.as_uri())
    wait(lambda: tab.js('document.readyState')=='complete' and tab.js('location.href')==html.as_uri(), 20, 'the page')
    pdf = base64.b64decode(tab.call('Page.printToPDF', preferCSSPageSize=True, printBackground=True, paperWidth=paper[0], paperHeight=paper[1])['data'])
    return len(re.findall(rb'/Type\s*/Page\b', pdf)), [tuple(round(float(v)/72, 1) for v in m.split()[2:]) for m in re.findall(rb'/MediaBox\s*\[([^]]*)\]', pdf)]

def test_an_answer_is_one_sheet_of_paper(browser, model, tmp_path):
    "Also one with much to say; with an explanation there is a second"
    still = SR.signal.copy(); still[1], still[7] = 0, np.nan
    swapped = SR.signal[[1, 0, *range(2, 12)]]*np.where(np.arange(12)==5, 9, 1)[:,None]
    noise = np.random.default_rng(0).normal(0, .4, (12, 5000))
    many = np.concatenate([s for r in ('SB', 'ST', 'AFIB') for s in [simulate(r, seed=4).signal]*4] + [noise, swapped, still], 1)
    plain, gaps, much = predict(SR, model), predict(Recording(still, check=False), model), predict(Recording(many, name='long name '*9, check=False), model)
    much.windows *= 4 # more stretches than are listed
    assert len(much.findings) >= 5 and len(much.windows) > 40
    for answer,explanation,n in ((plain, '', 1), (gaps, '', 1), (much, '', 1), (plain, '<h2>Explained</h2>', 2)):
        html = save_page(answer, tmp_path/'a.html', explanation)
        for paper in ((8.27, 11.69), (8.5, 11)): # A4, Letter
            count, sizes = sheets(browser, html, paper)
            assert count==n and sizes[0][0] > sizes[0][1], (answer, paper, count, sizes)
