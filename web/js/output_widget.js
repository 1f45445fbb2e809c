import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'

const PROGRESS_TEXT = '$$node-text-preview' // the page's own widget for what a node is doing
const MARGIN = 10 // of a DOM widget, on each side
const HISTORY = 20 // runs looked through after a reload of the page
const NO_ID = '00000000-0000-0000-0000-000000000000' // of a graph that was never saved or loaded

export function fileUrl(file) {
  // The time keeps the browser from showing a file of the same name from an earlier run.
  return api.apiURL(`/view?${new URLSearchParams({ ...file, t: Date.now() })}`)
}

/**
 * Shows an output of a node in a view of our own instead of the page's pictures, also after undo and a reload.
 *
 * @param {object} options
 * @param {string} options.extension name of the extension
 * @param {string} options.node id of the kind of node
 * @param {string} options.output name of the output that is shown
 * @param {(node) => object} options.create makes the view of a node: { element, filled, load(payload),
 *   heightFor(width), destroy() }
 * @param {[number, number]} options.heights least heights in pixels, before the first run and after it
 */
export function showOutput({ extension, node: kind, output: name, create, heights }) {
  /** The view of each node; a node that is gone takes its entry along. */
  const views = new WeakMap()

  function show(node, output) {
    const view = views.get(node)
    const payload = output?.[name]?.[0]
    if (!view || !payload) return
    const first = !view.filled
    view.load(payload)
    node.removeWidgetByName?.(PROGRESS_TEXT) // of the run that is over; it would take half of the view's room
    if (first) growTo(node, view)
  }

  function addView(node) {
    const view = create(node)
    views.set(node, view)
    node.onDrawBackground = () => {} // where the classic canvas would add a second picture below the view
    const widget = node.addDOMWidget(name, name, view.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => heights[Number(view.filled)] + 2 * MARGIN
    })
    widget.serialize = false // the option keeps it out of the prompt, this out of the saved workflow
    passOn(view.element)
    chain(node, 'onExecuted', (output) => show(node, output))
    chain(node, 'onRemoved', () => view.destroy())
  }

  const nodes = () => graphs().flatMap((graph) => graph.nodes.filter((node) => views.has(node)))

  /** After a reload the page knows no outputs; the server still has those of its last runs. */
  async function restore() {
    const root = app.rootGraph ?? app.graph
    const waiting = () => nodes().filter((node) => node.graph === root && !views.get(node).filled)
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
    name: extension,

    beforeRegisterNodeDef(nodeType, nodeData) {
      if (nodeData.name === kind) nodeType.prototype.hideOutputImages = true // Nodes 2.0: the view shows them
    },

    nodeCreated(node) {
      if (node.constructor.comfyClass === kind) addView(node)
    },

    onNodeOutputsUpdated(outputs) {
      for (const node of nodes()) show(node, outputOf(outputs, node))
    },

    afterConfigureGraph() {
      return restore()
    }
  })
}

/** Makes room for the whole picture once; later the size is the user's. */
function growTo(node, view) {
  const [width, height] = node.size
  const widget = node.widgets.find((candidate) => candidate.element === view.element)
  const others = (widget.y ?? 0) + 2 * MARGIN
  node.setSize([width, Math.max(height, others + view.heightFor(width - 2 * MARGIN))])
  node.setDirtyCanvas(true, true)
}

function chain(node, name, action) {
  const original = node[name]
  node[name] = function (...args) {
    const result = original?.apply(this, args)
    action(...args)
    return result
  }
}

/** On the classic canvas the wheel zooms and the middle button pans over the view as beside it. */
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

/** Outputs are keyed by the node's id, inside a subgraph by `<subgraph>:<id>`. */
function outputOf(outputs, node) {
  const root = app.rootGraph ?? app.graph
  return outputs[node.graph === root ? node.id : `${node.graph.id}:${node.id}`]
}
