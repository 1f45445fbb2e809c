/** Each workflow of the pack opens from the template browser, complete, without errors and laid out well, and runs. */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { hasVueNodes, openComfy, ours, runGraph, screenshot } from './page.mjs'

const ADDRESS = process.env.COMFYUI_ADDRESS
const PACK = process.env.COMFYUI_PACK || 'latentsync-nodes'
const VIEW = [1440, 900] // a small laptop: what fits here fits larger screens
const LEAST_ZOOM = 0.7 // at which text can be read
const MARGIN = 8 // between a node and the edge of its group
const templates = (await (await fetch(`${ADDRESS}/api/workflow_templates`)).json())[PACK] ?? []
const vue = await hasVueNodes(ADDRESS)

test('the pack has workflows', () => {
  assert.ok(templates.length > 0, 'the server lists none for this pack')
})

for (const renderer of vue ? ['canvas', 'vue'] : ['canvas']) {
  describe(renderer, () => {
    let comfy, page

    before(async () => {
      comfy = await openComfy(ADDRESS, { settings: { 'Comfy.VueNodes.Enabled': renderer === 'vue' }, size: VIEW })
      page = comfy.page
    })

    after(() => comfy?.close())

    for (const name of templates) {
      test(name, async () => {
        await openTemplate(page, name)
        const { unknown, zoom } = await page.evaluate(() => {
          const known = (node) => node.type in window.LiteGraph.registered_node_types || node.isVirtualNode
          const unknown = window.app.graph.nodes.filter((node) => !known(node)).map((node) => node.type)
          return { unknown, zoom: window.app.canvas.ds.scale }
        })
        assert.deepEqual(unknown, [])
        assert.equal(await page.locator('.comfy-missing-nodes, .comfy-missing-models').count(), 0)
        assert.ok(zoom >= LEAST_ZOOM, `opens at ${zoom}`)
        const fresh = await boxes(page, renderer)
        assert.deepEqual(outOfPlace(fresh), [])
        const outside = fresh.nodes.filter(({ active, box }) => active && !within(box, fresh.view, 0))
        assert.deepEqual(outside.map(({ title, box }) => `${title} ${box}`), [], `out of sight: ${fresh.view}`)
        await screenshot(page, `workflow_${name}_${renderer}`)
        if (renderer === 'canvas' && vue) return // one of the two runs it: the other would get all from the cache
        await runGraph(page)
        assert.deepEqual(outOfPlace(await boxes(page, renderer)), [], 'after a run')
        await screenshot(page, `workflow_${name}_${renderer}_run`)
      })
    }

    test('the page had no errors from this pack', () => {
      assert.deepEqual(ours(comfy.errors), [])
    })
  })
}

async function openTemplate(page, name) {
  await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates'))
  const dialog = page.getByRole('dialog')
  await dialog.getByText(PACK, { exact: true }).first().click()
  const card = page.getByTestId(`template-workflow-${name}`)
  await card.waitFor()
  await card.scrollIntoViewIfNeeded() // pictures load when they come into view, and their elements are swapped then
  await page.waitForFunction((id) => {
    const image = document.querySelector(`[data-testid="${id}"] img`)
    return image?.complete && image.naturalWidth > 0
  }, `template-workflow-${name}`)
  await card.locator('img').first().click()
  await card.waitFor({ state: 'detached' })
  await page.waitForTimeout(2000)
}

/** Nodes and groups as boxes [left, top, right, bottom] in the graph's measure, and the part of it that is in view. */
function boxes(page, renderer) {
  return page.evaluate((drawn) => {
    const { canvas, graph } = window.app
    const { scale, offset } = canvas.ds
    const sides = ([x, y, width, height]) => [x, y, x + width, y + height]
    const origin = canvas.canvas.getBoundingClientRect()
    const place = ({ x, y, width, height }) => sides([
      (x - origin.x) / scale - offset[0], (y - origin.y) / scale - offset[1], width / scale, height / scale
    ])
    const nodes = graph.nodes.map((node) => {
      const element = drawn && document.querySelector(`[data-node-id="${node.id}"]`)
      const box = element ? place(element.getBoundingClientRect()) : sides(node.getBounding())
      return { title: node.title, note: node.isVirtualNode, active: node.mode === 0, box: box.map(Math.round) }
    })
    const groups = graph.groups.map((group) => ({ title: group.title, box: sides([...group.pos, ...group.size]) }))
    return { nodes, groups, view: place(origin) }
  }, renderer === 'vue')
}

/** What covers something else or lies in no group, in words. */
function outOfPlace({ nodes, groups }) {
  const crossing = (things) => things.flatMap((one, index) => things.slice(index + 1).flatMap((other) => {
    const apart = one.box[2] <= other.box[0] || other.box[2] <= one.box[0] ||
      one.box[3] <= other.box[1] || other.box[3] <= one.box[1]
    return apart ? [] : [`${one.title} ${one.box} and ${other.title} ${other.box}`]
  }))
  const lost = nodes.filter(({ note, box }) => !note && !groups.some((group) => within(box, group.box, MARGIN)))
  const notes = nodes.filter(({ note }) => note)
  return [...crossing(nodes), ...crossing([...groups, ...notes]), ...lost.map(({ title, box }) => `${title} ${box}`)]
}

function within(inner, outer, margin) {
  return inner[0] >= outer[0] + margin && inner[1] >= outer[1] + margin &&
    inner[2] <= outer[2] - margin && inner[3] <= outer[3] - margin
}
