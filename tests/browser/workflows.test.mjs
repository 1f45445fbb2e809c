/** Each workflow of the pack opens from the template browser, complete and without errors. */

import assert from 'node:assert/strict'
import test, { after, before } from 'node:test'
import { openComfy, ours, screenshot } from './page.mjs'

const ADDRESS = process.env.COMFYUI_ADDRESS
const PACK = process.env.COMFYUI_PACK || 'latentsync-nodes'
const templates = (await (await fetch(`${ADDRESS}/api/workflow_templates`)).json())[PACK] ?? []
let comfy, page

before(async () => {
  comfy = await openComfy(ADDRESS)
  page = comfy.page
})

after(() => comfy?.close())

test('the pack has workflows', () => {
  assert.ok(templates.length > 0, 'the server lists none for this pack')
})

for (const name of templates) {
  test(name, async () => {
    await page.evaluate(() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates'))
    const dialog = page.getByTestId('template-workflows-content')
    await dialog.getByText(PACK, { exact: true }).first().click()
    const card = page.getByTestId(`template-workflow-${name}`)
    await card.waitFor()
    await card.scrollIntoViewIfNeeded() // pictures load when they come into view, and their elements are swapped then
    await page.waitForFunction((id) => {
      const image = document.querySelector(`[data-testid="${id}"] img`)
      return image?.complete && image.naturalWidth > 0
    }, `template-workflow-${name}`)
    await card.locator('img').first().click()
    await dialog.waitFor({ state: 'detached' })
    await page.waitForTimeout(1000)
    const { unknown, nodes } = await page.evaluate(() => {
      const { nodes } = window.app.graph
      const known = (node) => node.type in window.LiteGraph.registered_node_types || node.isVirtualNode
      return { nodes: nodes.length, unknown: nodes.filter((node) => !known(node)).map((node) => node.type) }
    })
    assert.ok(nodes > 1)
    assert.deepEqual(unknown, [])
    assert.equal(await page.locator('.comfy-missing-nodes, .comfy-missing-models').count(), 0)
    await screenshot(page, `workflow_${name}`)
  })
}

test('the page had no errors from this pack', () => {
  assert.deepEqual(ours(comfy.errors), [])
})
