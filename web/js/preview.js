import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'
import { ComparePlayer } from './player.js'

const NODE = 'LatentSyncPreview'
const OUTPUT = 'latentsync_preview'
const PROGRESS_TEXT = '$$node-text-preview' // the page's own widget for what a node is doing
const HINT_HEIGHT = 60
const PLAYER_HEIGHT = 240
const MARGIN = 10 // of a DOM widget, on each side
const HISTORY = 20 // runs looked through after a reload of the page
const NO_ID = '00000000-0000-0000-0000-000000000000' // of a graph that was never saved or loaded

/** The player of each node; a node that is gone takes its entry along. */
const players = new WeakMap()

function fileUrl(file) {
  // The time keeps the browser from showing a file of the same name from an earlier run.
  return api.apiURL(`/view?${new URLSearchParams({ ...file, t: Date.now() })}`)
}

/** Shows the node's output where it has one of ours. */
function show(node, output) {
  const player = players.get(node)
  const payload = output?.[OUTPUT]?.[0]
  if (!player || !payload) return
  const first = !player.filled
  const { after, before, track } = payload
  player.load({ ...payload, after: fileUrl(after), before: before ? fileUrl(before) : null, track: track ?? null })
  node.images = output.images // known, so the classic canvas adds no second video below the player
  node.removeWidgetByName?.(PROGRESS_TEXT) // of the run that is over; it would take half of the player's room
  if (first) growTo(node, player)
}

/** Makes room for the whole picture once; later the size is the user's. */
function growTo(node, player) {
  const [width, height] = node.size
  const widget = node.widgets.find((candidate) => candidate.element === player.element)
  const others = (widget.y ?? 0) + 2 * MARGIN
  node.setSize([width, Math.max(height, others + player.heightFor(width - 2 * MARGIN))])
  node.setDirtyCanvas(true, true)
}

function addPlayer(node) {
  const player = new ComparePlayer()
  players.set(node, player)
  const widget = node.addDOMWidget(OUTPUT, 'latentsync_player', player.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => (player.filled ? PLAYER_HEIGHT : HINT_HEIGHT) + 2 * MARGIN
  })
  widget.serialize = false // the option keeps it out of the prompt, this out of the saved workflow
  passOn(player.element)
  chain(node, 'onExecuted', (output) => show(node, output))
  chain(node, 'onRemoved', () => player.destroy())
}

function chain(node, name, action) {
  const original = node[name]
  node[name] = function (...args) {
    const result = original?.apply(this, args)
    action(...args)
    return result
  }
}

/** On the classic canvas the wheel zooms and the middle button pans over the player as beside it. */
function passOn(element) {
  const forward = (event) => {
    event.preventDefault()
    event.stopPropagation()
    app.canvas.canvas.dispatchEvent(new event.constructor(event.type, event))
  }
  const classic = () => !globalThis.LiteGraph?.vueNodesMode
  element.addEventListener('wheel', (event) => classic() && forward(event), { passive: false })
  for (const type of ['pointerdown', 'pointermove', 'pointerup']) {
    const middle = (event) => event.button === 1 || event.buttons === 4
    element.addEventListener(type, (event) => classic() && middle(event) && forward(event))
  }
}

/** The graphs on the page: the main one, and those of its subgraphs. */
function graphs() {
  const root = app.rootGraph ?? app.graph
  return [root, ...(root.subgraphs?.values() ?? [])]
}

function previewNodes() {
  return graphs().flatMap((graph) => graph.nodes.filter((node) => players.has(node)))
}

/** Outputs are keyed by the node's id, inside a subgraph by `<subgraph>:<id>`. */
function outputOf(outputs, node) {
  const root = app.rootGraph ?? app.graph
  return outputs[node.graph === root ? node.id : `${node.graph.id}:${node.id}`]
}

/** After a reload the page knows no outputs; the server still has those of its last runs. */
async function restore() {
  const root = app.rootGraph ?? app.graph
  const waiting = () => previewNodes().filter((node) => node.graph === root && !players.get(node).filled)
  if (!root.id || root.id === NO_ID || !waiting().length) return
  const reply = await api.fetchApi(`/history?max_items=${HISTORY}`)
  if (!reply.ok) return
  const runs = Object.values(await reply.json()).reverse()
  for (const { prompt, outputs } of runs) {
    if (prompt?.[3]?.extra_pnginfo?.workflow?.id !== root.id) continue
    for (const node of waiting()) show(node, outputs[node.id])
  }
}

app.registerExtension({
  name: 'LatentSync.Preview',

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === NODE) nodeType.prototype.hideOutputImages = true // Nodes 2.0: the player shows them
  },

  nodeCreated(node) {
    if (node.constructor.comfyClass === NODE) addPlayer(node)
  },

  onNodeOutputsUpdated(outputs) {
    for (const node of previewNodes()) show(node, outputOf(outputs, node))
  },

  afterConfigureGraph() {
    return restore()
  }
})
