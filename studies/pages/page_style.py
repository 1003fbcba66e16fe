"""The style of a report's page, and the script that draws its charts and follows its pickers."""

SCRIPT = """
const held = JSON.parse(document.getElementById('report-data').textContent);
const config = {
  displaylogo: false, responsive: true, modeBarButtonsToRemove: ['select2d', 'lasso2d']};
for (const [id, chart] of Object.entries(held.charts))
  Plotly.newPlot(id, chart.data, chart.layout, config);

// Coordinates and names of some branches or buses, a gap after each line.
function drawn(places, [kind, items]) {
  const from = places[kind], out = {x: [null], y: [null], hovertext: ['']};
  for (const k of items) {
    const x = [].concat(from.x[k]), gap = x.length > 1 ? [null] : [];
    out.x.push(...x, ...gap); out.y.push(...[].concat(from.y[k]), ...gap);
    out.hovertext.push(...x.concat(gap).map(() => from.name[k]));
  }
  return out;
}

// Numbers out of their short form.
function numbers(value) {
  if (!value || !value.i2) return value;
  const short = new Int16Array(Uint8Array.from(atob(value.i2), byte => byte.charCodeAt(0)).buffer);
  return Array.from(short, k => k === -32768 ? null : k * value.step);
}

// A trace with the changes of a choice.
function merged(trace, change, places) {
  const out = {...trace, ...(change.at ? drawn(places, change.at) : {})};
  for (const [name, value] of Object.entries(change)) {
    const nested = value.constructor === Object && !value.i2;
    if (name !== 'at')
      out[name] = nested ? merged(trace[name] || {}, value, places) : numbers(value);
  }
  return out;
}

function show(picker) {
  const chosen = [...Array(picker.n).keys()].map(
    k => document.getElementById(picker.name + '-' + k).value);
  const found = picker.layers.map(layer =>
    layer.choices[layer.by.map(k => chosen[k]).join('|')] || [layer.missing, {}]);
  document.getElementById(picker.name + '-note').innerHTML = found.map(one => one[0]).join('');
  for (const id of picker.charts) {
    const data = held.charts[id].data.map((trace, k) =>
      found.reduce(
        (so_far, one) => merged(so_far, (one[1][id] || {})[k] || {}, picker.places), trace));
    Plotly.react(id, data, held.charts[id].layout, config);
  }
}
for (const picker of held.pickers) {
  for (let k = 0; k < picker.n; k++)
    document.getElementById(picker.name + '-' + k).addEventListener('change', () => show(picker));
  show(picker);
}
"""

STYLE = """
:root { --ink: #22303c; --muted: #5c6873; --line: #e3e7eb; --accent: #0072B2; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #f6f7f9; line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans',
    sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 1rem 1rem 4rem; min-width: 0; }
header h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: .8rem 0 .2rem;
  letter-spacing: -.01em; }
.by { color: var(--muted); margin: 0 0 1rem; font-size: .9rem; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: .4rem 1.4rem 1.2rem; margin: 0 0 1.4rem; }
h2 { font-size: 1.35rem; margin: 1rem 0 .4rem; letter-spacing: -.01em; }
h3 { font-size: 1.1rem; margin: 1.6rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
p, ul { margin: .5rem 0 .7rem; max-width: 46rem; }
ul { padding-left: 1.2rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
code, pre { font-family: ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace;
  font-size: .88em; }
code { background: #f0f2f5; padding: .05em .3em; border-radius: 4px; overflow-wrap: anywhere; }
pre { background: #f0f2f5; border-radius: 8px; padding: .8rem 1rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; } figcaption, .under { color: var(--muted); font-size: .88rem;
  max-width: 46rem; margin: .3rem 0 0; }
.scroll { overflow-x: auto; max-width: 100%; }
.chart { width: 100%; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums;
  min-width: 100%; }
th, td { padding: .32rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { border-bottom: 2px solid #c9d0d6; font-weight: 600; vertical-align: bottom;
  max-width: 9rem; }
tr > :first-child { text-align: left; padding-left: 0; } tbody th { font-weight: 500;
  white-space: nowrap; }
td { white-space: nowrap; }
.facts td { text-align: left; white-space: normal; } .facts th { color: var(--muted); }
.selects { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: .5rem 0 .7rem; }
@media (min-width: 900px) { .selects { position: sticky; top: 0; z-index: 5; background: #fff;
  padding: .5rem 0 .6rem;
  border-bottom: 1px solid var(--line); } .selects label:first-child { flex-grow: 2; } }
.selects label { font-size: .82rem; color: var(--muted); display: grid; gap: .2rem;
  flex: 1 1 12rem; min-width: 0; max-width: 26rem; }
select { font: inherit; font-size: .95rem; color: var(--ink); padding: .42rem .5rem;
  border-radius: 7px;
  border: 1px solid #b9c2cb; background: #fff; width: 100%; min-width: 0; }
select:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.note { background: #f2f7fb; border-left: 4px solid var(--accent); border-radius: 4px;
  padding: .3rem .9rem; font-size: .94rem; }
.note p { margin: .35rem 0; max-width: none; }
nav { font-size: .86rem; padding: .6rem 1rem; background: #fff;
  border-bottom: 1px solid var(--line); }
nav ol, nav ul { list-style: none; margin: 0; padding: 0; max-width: none; }
nav ol > li { margin: .25rem 0; }
nav ul { display: none; } nav a { color: var(--ink); }
@media (min-width: 1180px) {
  body { display: grid; grid-template-columns: 226px minmax(0, 1fr); }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-bottom: 0;
    border-right: 1px solid var(--line); padding: 1.6rem 1rem; }
  nav ul { display: block; padding: .15rem 0 .3rem .8rem; } nav ul a { color: var(--muted); }
  nav ol > li { margin: .5rem 0; }
}
@media (max-width: 640px) {
  section { padding: .2rem .8rem .8rem; border-radius: 0; margin-left: -1rem; margin-right: -1rem;
    border-left: 0; border-right: 0; } body { font-size: 15px; } }
@media print { nav, .selects, .modebar { display: none !important; } body { background: #fff;
  display: block; }
  section { border: 0; padding: 0; } figure, tr { break-inside: avoid; } main { max-width: none; } }
"""
