/** The pack's blueprints, where ComfyUI has them: each opens as one node and makes a video. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { hasVueNodes, openComfy, ours, runGraph, screenshot } from './page.mjs'

const ADDRESS = process.env.COMFYUI_ADDRESS
const PACK = process.env.COMFYUI_PACK || 'latentsync-nodes'
const get = async (path) => (await fetch(`${ADDRESS}${path}`)).json()
const all = (await hasVueNodes(ADDRESS)) ? Object.entries(await get('/global_subgraphs')) : []
const blueprints = all.filter(([, { info }]) => info.node_pack === `custom_nodes.${PACK}`)
let comfy, page

before(async () => {
  comfy = await openComfy(ADDRESS)
  page = comfy.page
  if (!blueprints.length) return
  // A blueprint with a detector of its own is given the sample clip's track file, which has to be there by then.
  await page.evaluate(() => {
    const { graph } = window.app
    graph.clear()
    const [clip, save] = ['LatentSyncSampleClip', 'SaveVideo'].map((type) => window.LiteGraph.createNode(type))
    graph.add(clip)
    graph.add(save)
    clip.widgets.find((widget) => widget.name === 'copy_to_input').value = true
    clip.connect(0, save, 0)
  })
  await runGraph(page)
})

after(() => comfy?.close())

for (const [id, { name }] of blueprints) {
  test(name, async () => {
    const blueprint = JSON.parse((await get(`/global_subgraphs/${id}`)).data)
    await page.evaluate((data) => window.app.loadGraphData(data), blueprint)
    const [[title, sockets]] = await page.evaluate(() => {
      const node = window.app.graph.nodes[0]
      const clip = window.LiteGraph.createNode('LatentSyncSampleClip')
      const save = window.LiteGraph.createNode('SaveVideo')
      for (const [other, x] of [[clip, -500], [save, 500]]) {
        window.app.graph.add(other)
        other.pos = [x, 0]
      }
      clip.widgets.find((widget) => widget.name === 'copy_to_input').value = true
      const sockets = node.inputs.filter((input) => !input.widget).map((input) => input.name)
      for (const name of sockets) clip.connect(clip.outputs.findIndex((output) => output.name === name), node, name)
      node.connect(0, save, 0)
      const detector = node.widgets.find((widget) => widget.name === 'detector')
      if (detector) detector.value = 'talking_head.faces.json'
      return [[node.title, sockets]]
    })
    assert.equal(title, name)
    assert.deepEqual(sockets.slice(0, 2), ['video', 'audio'])
    await runGraph(page)
    await screenshot(page, `blueprint_${name.replaceAll(' ', '_')}`)
  })
}

test('the page had no errors from this pack', () => {
  assert.deepEqual(ours(comfy.errors), [])
})
