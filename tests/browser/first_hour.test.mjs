/** What a newcomer meets: a new node and how it is found, what is missing, one node for frames, the wrapper's workflow. */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { hasVueNodes, openComfy, ours, runGraph, screenshot } from './page.mjs'

const ADDRESS = process.env.COMFYUI_ADDRESS
const TURNED_MOST = ['steps', 'guidance', 'seed', 'control_after_generate', 'face', 'quality']
const vue = await hasVueNodes(ADDRESS)

for (const renderer of vue ? ['canvas', 'vue'] : ['canvas']) {
  describe(renderer, () => {
    let comfy, page

    before(async () => {
      comfy = await openComfy(ADDRESS, { settings: { 'Comfy.VueNodes.Enabled': renderer === 'vue' }, size: [1440, 900] })
      page = comfy.page
    })

    after(() => comfy?.close())

    /** A graph of new nodes, by names; `links` are [from, output, to, input], `values` of widgets by node. */
    const build = (types, links = [], values = {}) => page.evaluate(async ([types, links, values]) => {
      const { graph } = window.app
      graph.clear()
      const nodes = {}
      for (const [index, [name, type]] of Object.entries(types).entries()) {
        nodes[name] = window.LiteGraph.createNode(type)
        graph.add(nodes[name])
        nodes[name].pos = [40 + 330 * index, 100]
        for (const [widget, value] of Object.entries(values[name] ?? {})) {
          nodes[name].widgets.find((candidate) => candidate.name === widget).value = value
        }
      }
      for (const [from, output, to, input] of links) {
        nodes[from].connect(nodes[from].findOutputSlot(output), nodes[to], nodes[to].findInputSlot(input))
      }
      await window.app.loadGraphData({ ...graph.serialize(), id: crypto.randomUUID() })
      window.app.canvas.ds.scale = 0.8
      window.app.canvas.ds.offset = [80, 60]
      window.app.canvas.setDirty(true, true)
    }, [types, links, values])

    test('a new node has its seed fixed and shows first what most people turn', async () => {
      await build({ video: 'LatentSyncVideo' })
      const [widgets, saved] = await page.evaluate(async () => {
        const [node] = window.app.graph.nodes
        const widgets = node.widgets.map(({ name, value, options }) => ({ name, value, folded: options.advanced }))
        const workflow = window.app.graph.serialize()
        const control = node.widgets.findIndex(({ name }) => name === 'control_after_generate')
        workflow.nodes[0].widgets_values[control] = 'increment'
        await window.app.loadGraphData(workflow)
        return [widgets, window.app.graph.nodes[0].widgets[control].value]
      })
      assert.equal(widgets.find(({ name }) => name === 'control_after_generate').value, 'fixed')
      assert.equal(saved, 'increment', 'a saved workflow keeps its own')
      if (!vue) return
      assert.deepEqual(widgets.filter(({ folded }) => !folded).map(({ name }) => name), TURNED_MOST)
      if (renderer !== 'vue') return
      const node = page.locator('[data-node-id]')
      assert.equal(await node.getByText('smoothing', { exact: true }).count(), 0)
      await node.getByText('Show advanced inputs').click()
      await node.getByText('smoothing', { exact: true }).waitFor()
      await screenshot(page, 'first_hour_new_node')
    })

    test('the search finds it by what people call it', { skip: !vue && 'this ComfyUI knows no such words' }, async () => {
      await page.evaluate(() => window.app.graph.clear())
      for (const words of ['wav2lip', 'dubbing', 'talking head']) {
        await page.evaluate(() => window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle'))
        const field = page.getByRole('dialog').locator('input').first()
        await field.fill(words)
        await page.getByRole('dialog').getByText('Lip Sync Video', { exact: true }).first().waitFor()
        await page.keyboard.press('Escape')
        await field.waitFor({ state: 'detached' })
      }
    })

    test('without a detector the node says which node gets it', async () => {
      await build(
        { clip: 'LatentSyncSampleClip', detector: 'LatentSyncLoadDetector', track: 'LatentSyncTrackFace',
          preview: 'LatentSyncPreview' },
        [['clip', 'images', 'track', 'images'], ['detector', 'detector', 'track', 'detector'],
          ['clip', 'images', 'preview', 'after'], ['track', 'track', 'preview', 'track']],
        { clip: { clip: 'short clip' }, detector: { detector: 'yunet' } }
      )
      await assert.rejects(runGraph(page), ({ message }) => {
        assert.match(message, /^LatentSyncLoadDetector: .*models.latentsync.*Download LatentSync Models.*230 kB/s)
        return !message.includes('python -m')
      })
      const marked = await page.evaluate(() => window.app.lastExecutionError?.node_id)
      assert.equal(Number(marked), 2)
      await screenshot(page, `first_hour_no_detector_${renderer}`)
    })

    test('Lip Sync Video plays its result', async () => {
      await build(
        { clip: 'LatentSyncSampleClip', model: 'LatentSyncLoadModel', video: 'LatentSyncVideo', preview: 'LatentSyncPreview' },
        [['clip', 'video', 'video', 'video'], ['clip', 'audio', 'video', 'audio'], ['model', 'model', 'video', 'model'],
          ['clip', 'detector', 'video', 'detector'], ['video', 'video', 'preview', 'after']],
        { clip: { clip: 'short clip' } }
      )
      await runGraph(page)
      // Not the player's, whose elements are in a shadow.
      await page.waitForFunction(() => [...document.querySelectorAll('video')].some((video) => video.videoWidth > 0))
      await screenshot(page, `first_hour_video_${renderer}`)
    })

    test('Lip Sync Frames is one node for pictures and sound', async () => {
      const types = { clip: 'LatentSyncSampleClip', frames: 'LatentSyncFrames', preview: 'LatentSyncPreview' }
      const links = [['clip', 'images', 'frames', 'images'], ['clip', 'audio', 'frames', 'audio'],
        ['clip', 'detector', 'frames', 'detector'], ['frames', 'images', 'preview', 'after'],
        ['frames', 'audio', 'preview', 'audio'], ['clip', 'images', 'preview', 'before']]
      const values = { clip: { clip: 'short clip' }, frames: { audio_longer: 'stop' } }
      await build(types, links, values)
      await assert.rejects(runGraph(page), /LatentSyncFrames: no model is connected .*Download LatentSync Models/)
      const model = ['model', 'model', 'frames', 'model']
      await build({ ...types, model: 'LatentSyncLoadModel' }, [...links, model], values)
      await runGraph(page)
      const made = await page.evaluate(() => window.app.nodeOutputs[3].latentsync_preview[0])
      assert.ok(made.frames > 10 && made.before, JSON.stringify(made))
      await screenshot(page, `first_hour_frames_${renderer}`)
    })

    test("the wrapper's node is replaced with its values", { skip: !vue && 'this ComfyUI replaces none' }, async () => {
      await page.evaluate(async () => {
        const put = (name, type) => ({ name, type, link: null })
        const [images, audio] = [put('images', 'IMAGE'), put('audio', 'AUDIO')]
        const node = {
          id: 1, type: 'LatentSyncNode', pos: [200, 200], size: [315, 200], flags: {}, order: 0, mode: 0, properties: {},
          inputs: [images, audio], outputs: [{ ...images, links: null }, { ...audio, links: null }],
          widgets_values: [4321, 'fixed', 2.5, 12]
        }
        const workflow = { id: crypto.randomUUID(), nodes: [node], links: [], groups: [], extra: {}, version: 0.4 }
        window.app.loadGraphData({ ...workflow, last_node_id: 1, last_link_id: 0 })
      })
      await page.getByText('View details').click()
      await page.getByRole('button', { name: /^Replace/ }).first().click()
      await page.waitForFunction(() => window.app.graph.nodes[0].type === 'LatentSyncFrames')
      const values = await page.evaluate(() => {
        return Object.fromEntries(window.app.graph.nodes[0].widgets.map(({ name, value }) => [name, value]))
      })
      assert.deepEqual([values.seed, values.guidance, values.steps, values.fps], [4321, 2.5, 12, 25])
      await screenshot(page, `first_hour_replaced_${renderer}`)
    })

    test('the page had no errors from this pack', () => {
      // The page asks its makers about a node that it does not know; there is no network here.
      const outside = (text) => text.includes('api.comfy.org')
      assert.deepEqual(ours(comfy.errors).filter((text) => !outside(text)), [])
    })
  })
}
