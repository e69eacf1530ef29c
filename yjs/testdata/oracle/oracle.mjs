// Runs npm yjs for the Go tests: one JSON request a line on stdin, one JSON
// answer a line on stdout. Bytes are base64. Values that JSON lacks are written
// as objects with one member that starts with $.
import * as Y from 'yjs'
import * as awareness from 'y-protocols/awareness'
import * as encoding from 'lib0/encoding'
import readline from 'readline'

const bytes = s => new Uint8Array(Buffer.from(s, 'base64'))
const base64 = b => Buffer.from(b).toString('base64')
console.log = console.warn = console.error

// value reads a value as the Go side writes it.
const value = v => {
  if (Array.isArray(v)) return v.map(value)
  if (v === null || typeof v !== 'object') return v
  if ('$undefined' in v) return undefined
  if ('$bytes' in v) return bytes(v.$bytes)
  if ('$negzero' in v) return -0
  if ('$map' in v) return new Y.Map(Object.entries(v.$map).map(([k, x]) => [k, value(x)]))
  if ('$array' in v) return Y.Array.from(v.$array.map(value))
  if ('$text' in v) return new Y.Text(v.$text)
  if ('$xmltext' in v) return new Y.XmlText(v.$xmltext)
  if ('$element' in v) {
    const e = new Y.XmlElement(v.$element)
    for (const [k, x] of Object.entries(v.attrs || {})) e.setAttribute(k, value(x))
    e.insert(0, (v.children || []).map(value))
    return e
  }
  if ('$doc' in v) return new Y.Doc({ guid: v.$doc, gc: true })
  return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, value(x)]))
}

// plain turns what yjs returns into JSON the Go side can compare.
const plain = v => {
  if (v === undefined) return { $undefined: true }
  if (Object.is(v, -0)) return 0
  if (v instanceof Uint8Array) return { $bytes: base64(v) }
  if (v instanceof Y.Doc) return { guid: v.guid }
  if (v instanceof Y.Text && !(v instanceof Y.XmlText)) return { text: plain(v.toDelta()) }
  if (v instanceof Y.Map) return Object.fromEntries([...v.entries()].map(([k, x]) => [k, plain(x)]))
  if (v instanceof Y.Array) return v.toArray().map(plain)
  if (v instanceof Y.AbstractType) return v.toString()
  if (Array.isArray(v)) return v.map(plain)
  if (v !== null && typeof v === 'object') return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]))
  if (typeof v === 'bigint') return String(v)
  return v
}

const read = d => ({ t: plain(d.getText('t').toDelta()), a: plain(d.getArray('a')), m: plain(d.getMap('m')), x: d.getXmlFragment('x').toString() })
const pending = d => d.store.pendingStructs !== null || d.store.pendingDs !== null
const state = d => ({
  roots: read(d), v1: base64(Y.encodeStateAsUpdate(d)), v2: base64(Y.encodeStateAsUpdateV2(d)), sv: base64(Y.encodeStateVector(d)),
  snap: base64(Y.encodeSnapshot(Y.snapshot(d))), snap2: base64(Y.encodeSnapshotV2(Y.snapshot(d))), pending: pending(d)
})
const define = d => { d.getText('t'); d.getArray('a'); d.getMap('m'); d.getXmlFragment('x') }

// Steps of a script: each is [name, document, ...arguments].
const steps = {
  insert: (d, i, s, attrs) => d.getText('t').insert(i, s, attrs === null ? undefined : value(attrs)),
  embed: (d, i, v, attrs) => d.getText('t').insertEmbed(i, value(v), attrs === null ? undefined : value(attrs)),
  remove: (d, i, n) => d.getText('t').delete(i, n),
  format: (d, i, n, attrs) => d.getText('t').format(i, n, value(attrs)),
  delta: (d, ops) => d.getText('t').applyDelta(ops.map(o => ({ ...o, ...(o.insert !== undefined ? { insert: value(o.insert) } : {}) }))),
  textattr: (d, k, v) => d.getText('t').setAttribute(k, value(v)),
  list: (d, i, vs) => d.getArray('a').insert(i, vs.map(value)),
  push: (d, vs) => d.getArray('a').push(vs.map(value)),
  listdel: (d, i, n) => d.getArray('a').delete(i, n),
  get: (d, i) => { d.getArray('a').get(i) },
  set: (d, k, v) => d.getMap('m').set(k, value(v)),
  unset: (d, k) => d.getMap('m').delete(k),
  clear: d => d.getMap('m').clear(),
  nested: (d, k, ...rest) => {
    const n = d.getMap('m').get(k)
    if (n instanceof Y.Map) n.set(rest[0], value(rest[1]))
    else if (n instanceof Y.Array) n.insert(Math.min(rest[2], n.length), [value(rest[1])])
    else if (n instanceof Y.Text) n.insert(Math.min(rest[2], n.length), rest[0])
  },
  xml: (d, i, v) => d.getXmlFragment('x').insert(i, [value(v)]),
  xmldel: (d, i, n) => d.getXmlFragment('x').delete(i, n),
  xmlattr: (d, i, k, v) => { const e = d.getXmlFragment('x').get(i); if (v === null) e.removeAttribute(k); else e.setAttribute(k, v) },
  xmlchild: (d, i, j, v) => d.getXmlFragment('x').get(i).insert(j, [value(v)]),
  xmltext: (d, i, j, s, attrs) => d.getXmlFragment('x').get(i).insert(j, s, attrs === null ? undefined : value(attrs))
}

const ops = {
  merge: r => base64((r.v === 2 ? Y.mergeUpdatesV2 : Y.mergeUpdates)(r.u.map(bytes))),
  diff: r => base64((r.v === 2 ? Y.diffUpdateV2 : Y.diffUpdate)(bytes(r.u[0]), bytes(r.sv))),
  sv: r => base64((r.v === 2 ? Y.encodeStateVectorFromUpdateV2 : Y.encodeStateVectorFromUpdate)(bytes(r.u[0]))),
  conv: r => base64((r.v === 2 ? Y.convertUpdateFormatV2ToV1 : Y.convertUpdateFormatV1ToV2)(bytes(r.u[0]))),
  apply: r => {
    const d = new Y.Doc({ gc: !!r.gc }); define(d)
    for (const u of r.u) (r.v === 2 ? Y.applyUpdateV2 : Y.applyUpdate)(d, bytes(u))
    return state(d)
  },
  script: r => {
    const sent = []
    const docs = r.clients.map(id => {
      const d = new Y.Doc({ gc: !!r.gc, guid: 'doc' + id }); d.clientID = id; define(d)
      d.on('update', (u, o) => { if (o !== 'remote') sent.push(['1', base64(u)]) })
      d.on('updateV2', (u, o) => { if (o !== 'remote') sent.push(['2', base64(u)]) })
      d.um = new Y.UndoManager([d.getText('t'), d.getArray('a'), d.getMap('m'), d.getXmlFragment('x')], { captureTimeout: 1e12, trackedOrigins: new Set([null, 'user']) })
      return d
    })
    const out = []
    const all = [[], []] // updates sent, by version
    const events = []
    if (r.events) {
      docs.forEach((d, k) => ['t', 'a', 'm', 'x'].forEach(name => d.share.get(name).observeDeep(es => {
        for (const e of es) events.push(plain({ doc: k, root: name, path: e.path, delta: e.delta, keys: Object.fromEntries([...e.keys.entries()].map(([k, c]) => [k, { action: c.action, old: c.oldValue === undefined ? null : plain(c.oldValue) }])) }))
      })))
    }
    const run = s => {
      const [name, at, ...args] = s
      const d = docs[at]
      switch (name) {
        case 'sync': Y.applyUpdate(d, Y.encodeStateAsUpdate(docs[args[0]], Y.encodeStateVector(d)), 'remote'); break
        case 'sync2': Y.applyUpdateV2(d, Y.encodeStateAsUpdateV2(docs[args[0]], Y.encodeStateVector(d)), 'remote'); break
        case 'deliver': Y.applyUpdate(d, bytes(all[0][args[0]]), 'remote'); break
        case 'group': (args[0] === 2 ? Y.applyUpdateV2 : Y.applyUpdate)(d, (args[0] === 2 ? Y.mergeUpdatesV2 : Y.mergeUpdates)(args[1].map(i => bytes(all[args[0] - 1][i]))), 'remote'); break
        case 'undo': d.um.undo(); break
        case 'redo': d.um.redo(); break
        case 'stop': d.um.stopCapturing(); break
        case 'transact': d.transact(() => args[0].forEach(run), 'user'); break
        default: steps[name](d, ...args)
      }
    }
    for (const s of r.steps) {
      sent.length = 0
      run(s)
      out.push(sent.slice())
      for (const [v, u] of sent) all[v - 1].push(u)
    }
    return { out, events, docs: docs.map(state) }
  },
  awareness: r => {
    const d = new Y.Doc(); d.clientID = r.client
    const a = new awareness.Awareness(d)
    a.setLocalState(null)
    const changes = []
    a.on('update', c => changes.push(c))
    for (const u of r.u) awareness.applyAwarenessUpdate(a, bytes(u), 'remote')
    const states = Object.fromEntries([...a.getStates().entries()])
    const update = base64(awareness.encodeAwarenessUpdate(a, [...a.getStates().keys()].sort((x, y) => x - y)))
    a.destroy()
    return { states, update, changes: changes.slice(0, r.u.length) }
  },
  any: r => r.values.map(v => { const e = encoding.createEncoder(); encoding.writeAny(e, value(v)); return base64(encoding.toUint8Array(e)) }),
  bench: r => {
    const median = f => { const a = []; for (let i = 0; i < 5; i++) { const t = performance.now(); f(); a.push(performance.now() - t) } return a.sort((x, y) => x - y)[2] }
    const b4 = bytes(r.b4), typing = r.typing.map(bytes), small = r.small.map(bytes)
    const sv = Y.encodeStateVector(new Map(Object.entries(r.sv).map(([c, n]) => [+c, n])))
    return {
      merge: median(() => Y.mergeUpdates(typing)), diff: median(() => Y.diffUpdate(b4, sv)), sv: median(() => Y.encodeStateVectorFromUpdate(b4)),
      load: median(() => { const d = new Y.Doc(); Y.applyUpdate(d, b4); d.getText('text').toString() }),
      small: median(() => { for (const u of small) Y.applyUpdate(new Y.Doc(), u) })
    }
  }
}

readline.createInterface({ input: process.stdin }).on('line', line => {
  let r = {}
  let answer
  try {
    r = JSON.parse(line)
    answer = { ok: ops[r.op](r) }
  } catch (e) {
    answer = { err: String((e && e.stack) || e) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
})
