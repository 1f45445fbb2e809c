import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'

/**
 * What the page's own translation does not reach, in the language of the page: the player, the values of combos, and
 * the titles and notes of this pack's workflows. The words are those of "latentsync" in locales/<language>/main.json.
 */
const tables = await fetchTables()

async function fetchTables() {
  const reply = await api.fetchApi('/i18n')
  return reply.ok ? reply.json() : {}
}

function table() {
  return tables[app.extensionManager?.setting?.get('Comfy.Locale')]?.latentsync
}

/** The translation of `text`, or `otherwise` where there is none. */
export function translate(text, otherwise = text) {
  return table()?.[text] ?? otherwise
}

const isOurs = ({ type }) => type?.startsWith('LatentSync')

app.registerExtension({
  name: 'LatentSync.Words',

  nodeCreated(node) {
    if (!isOurs({ type: node.constructor.comfyClass }) || !table()) return
    for (const widget of node.widgets ?? []) {
      if (widget.type === 'combo') widget.options.getOptionLabel = (value) => translate(String(value ?? ''))
    }
  },

  /** A note goes by its first line. */
  beforeConfigureGraph({ nodes = [], groups = [] }) {
    if (!table() || !nodes.some(isOurs)) return
    for (const titled of [...groups, ...nodes].filter(({ title }) => title)) {
      titled.title = titled.title.replace(/[^\d ].*/, (words) => translate(words)) // behind the number of a group
    }
    for (const { type, widgets_values: values } of nodes) {
      if (type === 'MarkdownNote') values[0] = translate(values[0].split('\n')[0], values[0])
    }
  }
})
