/** What the page itself does not translate is in the language of the page: here Chinese. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { hasVueNodes, openComfy, ours, screenshot } from './page.mjs'

const ADDRESS = process.env.COMFYUI_ADDRESS
const PACK = process.env.COMFYUI_PACK || 'latentsync-nodes'
const vue = await hasVueNodes(ADDRESS)
const chinese = /[\u4e00-\u9fff]/
let comfy, page

before(async () => {
  comfy = await openComfy(ADDRESS, { settings: { 'Comfy.Locale': 'zh', 'Comfy.VueNodes.Enabled': vue } })
  page = comfy.page
})

after(async () => {
  await fetch(`${ADDRESS}/api/settings`, { method: 'POST', body: JSON.stringify({ 'Comfy.Locale': 'en' }) })
  await comfy?.close()
})

test('titles, notes, values and the player are Chinese, and what is saved and run is not', async () => {
  const workflow = await (await fetch(`${ADDRESS}/api/workflow_templates/${PACK}/2_step_by_step.json`)).json()
  await page.evaluate((data) => window.app.loadGraphData(data), workflow)
  await page.locator('.player .hint').waitFor()
  const { titles, note, label, prompt } = await page.evaluate(async () => {
    const { graph } = window.app
    const face = graph.nodes.find((node) => node.type === 'LatentSyncTrackFace').widgets.find((w) => w.name === 'face')
    const { output } = await window.app.graphToPrompt()
    return {
      titles: graph.groups.map((group) => group.title),
      note: graph.nodes.find((node) => node.type === 'MarkdownNote').widgets[0].value,
      label: face.options.getOptionLabel(face.value),
      prompt: Object.values(output).find((node) => node.class_type === 'LatentSyncTrackFace').inputs.face
    }
  })
  for (const text of [...titles, note, label, await page.locator('.player .hint').textContent()]) {
    assert.match(text, chinese)
  }
  assert.match(titles[0], /^1  /)
  assert.equal(prompt, 'largest')
  if (vue) assert.ok((await page.getByText(label, { exact: true }).count()) > 0, 'the label is on the node')
  await screenshot(page, 'words')
})

test('the page had no errors from this pack', () => {
  assert.deepEqual(ours(comfy.errors), [])
})
