// The page of `ecg_serve`. Everything it loads comes from the server that served it; see server.py for what is answered.
'use strict'
const $ = id => document.getElementById(id)
const answers = [] // what was read so far, newest last: {id, name, status, ...} or {name, error}
let shown = null   // the answer that is open
let box = null     // the part of the chart that is seen, in mm: {x, y, w, h}
let full = null    // the whole chart

// ---- asking the server

async function ask(path, body) {
  const headers = { 'X-ECG': '1' }
  if (body) headers['Content-Type'] = 'application/json'
  const reply = await fetch(path, { method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body) })
  const kind = reply.headers.get('Content-Type') || ''
  const data = kind.startsWith('application/json') ? await reply.json() : await reply.text()
  if (!reply.ok) throw new Error(data.error || `the server answered ${reply.status}`)
  return data
}

function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader()
    reader.onload = () => done(reader.result.split(',')[1] || '')
    reader.onerror = () => failed(new Error(`${file.name} cannot be read`))
    reader.readAsDataURL(file)
  })
}

// A header of WFDB needs its signal files (same name, another ending, or listed in it); all else is a recording by itself
function groups(files) {
  const stem = f => f.name.replace(/\.[^.]*$/, '')
  const heads = files.filter(f => /\.hea$/i.test(f.name))
  const signals = files.filter(f => /\.(dat|mat)$/i.test(f.name))
  if (heads.length === 1) return [[...heads, ...signals], ...files.filter(f => f !== heads[0] && !signals.includes(f)).map(f => [f])]
  const used = new Set(heads)
  const sets = heads.map(h => [h, ...signals.filter(s => stem(s) === stem(h) && used.add(s))])
  return [...sets, ...files.filter(f => !used.has(f)).map(f => [f])]
}

async function read(files) {
  const sets = groups([...files])
  if (!sets.length) return
  say('')
  $('progress').hidden = false
  $('progress').max = sets.length
  let first = null
  for (const [i, set] of sets.entries()) {
    $('progress').value = i
    say(`Reading ${set[0].name} (${i + 1} of ${sets.length}) ...`)
    let found
    try {
      const body = { files: {} }
      if ($('unit').value) body.unit = $('unit').value
      if ($('fs').value) body.fs = +$('fs').value
      for (const f of set) body.files[f.name] = await base64(f)
      found = (await ask('predict', body)).answers
    } catch (e) { found = [{ name: set[0].name, error: e.message }] }
    for (const a of found) { answers.push(a); first = first || a }
    list()
  }
  finish(first)
}

function finish(first) {
  $('progress').hidden = true
  say('')
  list()
  if (first) show(first)
}

async function example() {
  try {
    const found = (await ask('example', {})).answers
    answers.push(...found)
    finish(found[0])
  } catch (e) { say(e.message, true) }
}

function say(text, bad = false) {
  $('said').textContent = text
  $('said').className = bad ? 'bad' : ''
}

// ---- small helpers for elements

function element(tag, text, className) {
  const e = document.createElement(tag)
  if (text !== undefined) e.textContent = text
  if (className) e.className = className
  return e
}

function row(...cells) {
  const tr = element('tr')
  for (const c of cells) {
    const td = element('td')
    if (c instanceof Node) td.append(c)
    else { td.textContent = c.text ?? c; if (c.className) td.className = c.className }
    tr.append(td)
  }
  return tr
}

const percent = v => v == null ? '' : `${Math.round(100 * v)} %`
const number = (text) => ({ text, className: 'number' })

// ---- the table

function list() {
  $('list').hidden = answers.length < 2
  $('table').href = `table.csv?ids=${answers.filter(a => a.id).map(a => a.id).join(',')}`
  $('rows').replaceChildren(...answers.map(a => {
    const status = a.error ? 'unreadable' : a.status
    const known = a.error || a.findings.filter(f => f.level !== 'note' || f.code === 'convention').map(f => f.text).join('; ') || 'no check speaks against it'
    const tr = row(a.name, a.rhythm || (a.error ? '' : 'none named'), element('span', status, `status ${status}`),
      number(a.rhythm ? percent(a.certainty) : ''), number(a.heart?.rate ? Math.round(a.heart.rate) : ''), known)
    if (a === shown) tr.classList.add('shown')
    tr.tabIndex = 0
    tr.onclick = () => show(a)
    tr.onkeydown = e => { if (e.key === 'Enter') show(a) }
    return tr
  }))
}

// ---- one answer

function show(a) {
  shown = a
  list()
  $('answer').hidden = !!a.error
  if (a.error) return say(`${a.name}: ${a.error}`, true)
  say('')
  $('verdict').className = a.status
  $('rhythm').textContent = a.rhythm ? `${a.rhythm}: ${a.title}` : 'No rhythm is named'
  const sure = [a.name, `${+a.seconds.toPrecision(4)} s at ${+a.fs.toPrecision(6)} Hz`, `Status: ${a.status}`]
  if (a.rhythm) sure.splice(1, 0, percent(a.certainty))
  $('sure').textContent = sure.join(' · ')
  bars(a)
  heart(a)
  findings(a)
  windows(a)
  $('about').textContent = a.about
  const base = `answers/${a.id}`
  for (const [id, path, ending] of [['page', 'page.html', 'html'], ['json', 'answer.json', 'json'], ['samples', 'samples.csv', 'csv']]) {
    $(id).href = `${base}/${path}`
    $(id).download = `${a.name.replace(/[^\w.-]+/g, '_')}.${ending}`
  }
  $('overlay').hidden = !a.picture
  $('overlay').href = `${base}/overlay.html`
  press('why', false)
  $('legend').textContent = ''
  draw()
}

function bars(a) {
  const p = Object.entries(a.answers || {}).sort((x, y) => y[1] - x[1])
  $('bars').replaceChildren(...p.map(([c, v]) => {
    const meter = element('meter')
    meter.max = 1
    meter.value = v
    meter.textContent = percent(v)
    const tr = row(c, meter, number(`${(100 * v).toFixed(1)} %`))
    tr.title = a.titles[c] || c
    if (a.rhythms && !a.rhythms.includes(c)) tr.className = 'out'
    return tr
  }))
  const lines = []
  if (!p.length) lines.push('No chart could be drawn.')
  if (a.rhythms) lines.push(`Cannot be ruled out: ${a.rhythms.join(', ')}.`)
  if (a.second) lines.push(a.second)
  $('ruled').textContent = lines.join(' ')
}

function heart(a) {
  const h = a.heart, q = a.quality
  const rows = [['Beats found', h.beats]]
  if (h.rate) rows.unshift(['Heart rate', `${Math.round(h.rate)} / min`])
  if (h.rate) rows.push(['RR', `${Math.round(h.rr_min)} to ${Math.round(h.rr_max)} ms`], ['RR, standard deviation', `${Math.round(h.rr_sd)} ms (${(100 * h.rr_cv).toFixed(1)} %)`])
  rows.push(['Largest amplitude', `${q.peak.toFixed(2)} mV`], ['Smallest lead', `${q.weakest.toFixed(2)} mV`], ['Quality rules broken', q.broken.join(', ') || 'none'])
  $('heart').replaceChildren(...rows.map(([k, v]) => row(k, number(v ?? '-'))))
}

function findings(a) {
  const items = a.findings.map(f => element('li', f.text, f.level))
  for (const text of a.assumed) items.push(element('li', `Assumed: ${text}`, 'note'))
  for (const text of a.changes) items.push(element('li', `Done to the samples: ${text}`, 'note'))
  if (!a.findings.some(f => f.level !== 'note')) items.unshift(element('li', 'No check speaks against it.'))
  $('findings').replaceChildren(...items)
}

function windows(a) {
  $('window').hidden = a.windows.length < 2
  $('start').replaceChildren(...a.windows.map(w => {
    const option = element('option', `${+w.start.toFixed(1)} s: ${w.rhythm || 'none named'}`)
    option.value = w.start
    return option
  }))
}

// ---- the chart, in mm of paper: 25 mm are a second, 10 mm a millivolt

async function draw() {
  const a = shown
  const query = new URLSearchParams({ layout: $('layout').value, start: $('start').value || '0' })
  if ($('why').getAttribute('aria-pressed') === 'true') query.set('why', '1')
  try {
    const text = await ask(`answers/${a.id}/chart.svg?${query}`)
    if (a !== shown) return
    const svg = document.importNode(new DOMParser().parseFromString(text, 'image/svg+xml').documentElement, true)
    $('chart').replaceChildren(svg)
    const [x, y, w, h] = svg.getAttribute('viewBox').split(' ').map(Number)
    full = { x, y, w, h }
    look({ ...full })
    $('measured').textContent = ''
    $('legend').textContent = svg.querySelector('desc')?.textContent || ''
  } catch (e) { say(e.message, true) }
}

function look(next) {
  const w = Math.min(full.w, Math.max(10, next.w)), h = w * full.h / full.w
  box = { w, h, x: Math.min(Math.max(next.x, full.x), full.x + full.w - w), y: Math.min(Math.max(next.y, full.y), full.y + full.h - h) }
  $('chart').firstChild.setAttribute('viewBox', `${box.x} ${box.y} ${box.w} ${box.h}`)
}

function zoom(by, at) {
  if (!box) return
  const p = at || { x: box.x + box.w / 2, y: box.y + box.h / 2 }
  look({ w: box.w / by, x: p.x - (p.x - box.x) / by, y: p.y - (p.y - box.y) / by })
}

function place(e) { // of the pointer, in mm
  const r = $('chart').firstChild.getBoundingClientRect()
  return { x: box.x + (e.clientX - r.left) / r.width * box.w, y: box.y + (e.clientY - r.top) / r.height * box.h }
}

const touching = new Map()
let from = null // where a drag began: {p, box}

$('chart').onpointerdown = e => {
  if (!box) return
  touching.set(e.pointerId, e)
  $('chart').setPointerCapture(e.pointerId)
  from = { p: place(e), box: { ...box }, gap: spread() }
}
$('chart').onpointermove = e => {
  if (!touching.has(e.pointerId)) return
  touching.set(e.pointerId, e)
  if (touching.size > 1) {
    const now = spread()
    if (from.gap && now) { look(from.box); zoom(now / from.gap, from.p) }
  } else if (measuring()) caliper(from.p, place(e))
  else {
    const p = place(e)
    look({ ...box, x: box.x + from.p.x - p.x, y: box.y + from.p.y - p.y })
  }
}
$('chart').onpointerup = $('chart').onpointercancel = e => {
  touching.delete(e.pointerId)
  const rest = [...touching.values()][0]
  if (rest) from = { p: place(rest), box: { ...box }, gap: 0 } // one finger was lifted
}
$('chart').addEventListener('wheel', e => { if (box) { e.preventDefault(); zoom(Math.exp(-e.deltaY / 400), place(e)) } }, { passive: false })

function spread() {
  const [a, b] = [...touching.values()]
  return b ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0
}

const measuring = () => $('calipers').getAttribute('aria-pressed') === 'true'

function caliper(a, b) {
  let rect = $('chart').querySelector('.caliper')
  if (!rect) {
    rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect')
    rect.setAttribute('class', 'caliper')
    $('chart').firstChild.append(rect)
  }
  const w = Math.abs(a.x - b.x), h = Math.abs(a.y - b.y)
  for (const [k, v] of Object.entries({ x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), width: w, height: h })) rect.setAttribute(k, v)
  const ms = 1000 * w / 25
  $('measured').textContent = `${Math.round(ms)} ms` + (ms >= 150 ? ` = ${Math.round(60000 / ms)} / min` : '') + `, ${(h / 10).toFixed(2)} mV`
}

function press(id, on) { $(id).setAttribute('aria-pressed', on) }

// ---- what is pressed and dropped

$('files').onchange = e => { read(e.target.files); e.target.value = '' }
document.ondragover = e => { e.preventDefault(); $('drop').classList.add('over') }
document.ondragleave = e => { if (!e.relatedTarget) $('drop').classList.remove('over') }
document.ondrop = e => { e.preventDefault(); $('drop').classList.remove('over'); read(e.dataTransfer.files) }
document.querySelector('#drop label.button').onkeydown = e => { if (e.key === 'Enter' || e.key === ' ') $('files').click() }
$('example').onclick = example
$('clear').onclick = async () => {
  await ask('clear', {})
  answers.length = 0
  shown = null
  $('answer').hidden = true
  list()
}
$('layout').onchange = $('start').onchange = draw
$('closer').onclick = () => zoom(1.5)
$('further').onclick = () => zoom(1 / 1.5)
$('whole').onclick = () => { if (full) look({ ...full }) }
$('calipers').onclick = () => {
  press('calipers', !measuring())
  $('chart').classList.toggle('measuring', measuring())
  if (!measuring()) { $('chart').querySelector('.caliper')?.remove(); $('measured').textContent = '' }
}
$('why').onclick = () => { press('why', $('why').getAttribute('aria-pressed') !== 'true'); draw() }
$('print').onclick = () => {
  $('sheet').onload = () => $('sheet').contentWindow.print()
  $('sheet').src = `answers/${shown.id}/page.html`
}

ask('about').then(about => {
  $('model').textContent = about.model
  $('model').classList.toggle('simulated', about.simulated)
}).catch(e => say(e.message, true))
