/** A click on a face in the picture of Track Face makes it the one that is followed. */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { hasVueNodes, openComfy, ours, runGraph, screenshot } from './page.mjs'

const ADDRESS = process.env.COMFYUI_ADDRESS

for (const renderer of (await hasVueNodes(ADDRESS)) ? ['canvas', 'vue'] : ['canvas']) {
  describe(renderer, () => {
    let comfy, page

    before(async () => {
      comfy = await openComfy(ADDRESS, { settings: { 'Comfy.VueNodes.Enabled': renderer === 'vue' } })
      page = comfy.page
      await page.evaluate(async (smoothing) => {
        const { graph } = window.app
        graph.clear()
        const [clip, track, preview] = ['LatentSyncSampleClip', 'LatentSyncTrackFace', 'LatentSyncPreview'].map(
          (type, index) => {
            const node = window.LiteGraph.createNode(type)
            node.pos = [40 + 320 * index, 100]
            graph.add(node)
            return node
          }
        )
        clip.widgets[0].value = 'two speakers'
        track.widgets.find((widget) => widget.name === 'smoothing').value = smoothing // nothing comes from the cache
        for (const name of ['images', 'detector']) {
          clip.connect(clip.findOutputSlot(name), track, track.findInputSlot(name))
        }
        clip.connect(clip.findOutputSlot('images'), preview, preview.findInputSlot('after'))
        track.connect(track.findOutputSlot('track'), preview, preview.findInputSlot('track'))
        await window.app.loadGraphData({ ...graph.serialize(), id: crypto.randomUUID() })
        window.app.canvas.ds.scale = 1
        window.app.canvas.ds.offset = [0, 20]
        window.app.canvas.setDirty(true, true)
      }, renderer === 'vue' ? 0.1 : 0.2)
    })

    after(() => comfy?.close())

    /** The widgets of Track Face, and the middle of the box of the face in the first frame. */
    const state = () => page.evaluate(() => {
      const { graph, nodeOutputs } = window.app
      const [track, preview] = ['LatentSyncTrackFace', 'LatentSyncPreview'].map((type) => {
        return graph.nodes.find((node) => node.type === type)
      })
      const values = Object.fromEntries(track.widgets.map(({ name, value }) => [name, value]))
      const [facts] = nodeOutputs[track.id].latentsync_faces
      const [x1, y1, x2, y2] = nodeOutputs[preview.id].latentsync_preview[0].track.box[0]
      const saved = track.serialize().widgets_values
      const picture = saved[track.widgets.findIndex(({ name }) => name === 'latentsync_faces')]
      return { values, facts, saved, picture, middle: [(x1 + x2) / 2, (y1 + y2) / 2] }
    })

    /** The widgets that came with the run, such as the page's own pictures. */
    const names = () => page.evaluate(() => {
      const made = (widget) => widget.element || widget.name.startsWith('$$')
      return window.app.graph.nodes.flatMap((node) => node.widgets.filter(made).map((widget) => widget.name))
    })

    test('a click on the other face', async () => {
      await runGraph(page)
      const old = await state()
      assert.equal(old.values.face, 'largest')
      const picture = page.locator('img[data-latentsync]')
      await picture.waitFor()
      const second = page.locator('.image-preview img, .comfy-img-preview')
      assert.equal(await second.count(), 0, 'no second picture of the same file')
      assert.deepEqual(await names(), ['latentsync_faces', 'latentsync_preview'])
      const shown = await picture.boundingBox()
      const { width, height, columns, gap, frame } = old.facts
      assert.ok(Math.abs(shown.width / shown.height - width / height) < 0.1, 'the whole picture')
      // The two speakers sit side by side: the other one is as far from the other edge.
      const target = [frame[0] - old.middle[0], old.middle[1]]
      const column = (width + gap) / columns
      const pixel = (frame[0] / (column - gap)) * (width / shown.width) // of the screen, in the clip
      const at = target.map((value) => value / pixel)
      await page.mouse.click(shown.x + at[0], shown.y + at[1])
      const { values } = await state()
      assert.equal(values.face, 'nearest')
      assert.ok(Math.hypot(values.x - target[0], values.y - target[1]) < 2 * pixel, `${values.x} ${values.y} ${target}`)
      await screenshot(page, `faces_${renderer}`)
      await page.mouse.click(shown.x + at[0], shown.y + shown.height - 2) // a crop: means no place
      await runGraph(page)
      const now = await state()
      assert.deepEqual([now.values.x, now.values.y], [values.x, values.y])
      assert.ok(Math.abs(now.middle[0] - target[0]) < frame[0] / 8, 'the other face is followed')
      assert.deepEqual(now.saved.slice(0, 5), [25, 'nearest', 0, values.x, values.y])
      assert.ok(!now.picture, 'nothing of the picture is saved')
    })

    test('the page had no errors from this pack', () => {
      assert.deepEqual(ours(comfy.errors), [])
    })
  })
}
