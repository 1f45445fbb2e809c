/** The player of the node Preview Lip Sync, in a real page: what it shows, what it does, what it leaves behind. */

import assert from 'node:assert/strict'
import test, { after, before } from 'node:test'
import { openComfy, ours, ready, screenshot } from './page.mjs'

const ADDRESS = process.env.COMFYUI_ADDRESS
const ONE_FRAME = 1 / 25
let comfy, page

/** Sample clip -> track -> preview of the clip beside itself: both videos must always show the same picture. */
async function buildGraph() {
  await page.evaluate(async () => {
    const { graph } = window.app
    graph.clear()
    const add = (type, x) => {
      const node = window.LiteGraph.createNode(type)
      node.pos = [x, 100]
      graph.add(node)
      return node
    }
    const link = (from, output, to, input) =>
      from.connect(from.findOutputSlot(output), to, to.findInputSlot(input))
    const clip = add('LatentSyncSampleClip', 40)
    const track = add('LatentSyncTrackFace', 340)
    const preview = add('LatentSyncPreview', 700)
    clip.widgets.find((widget) => widget.name === 'clip').value = 'short clip'
    link(clip, 'images', track, 'images')
    link(clip, 'detector', track, 'detector')
    link(clip, 'images', preview, 'before')
    link(clip, 'images', preview, 'after')
    link(clip, 'audio', preview, 'audio')
    link(track, 'track', preview, 'track')
    preview.size = [420, 200]
    await window.app.loadGraphData({ ...graph.serialize(), id: crypto.randomUUID() })
    window.app.canvas.ds.scale = 1
    window.app.canvas.ds.offset = [0, 20]
    window.app.canvas.setDirty(true, true)
  })
}

const player = () => page.locator('.player')
const shown = () => page.locator('.player:not(.empty)')

/** Numbers of the player: per video its time and state, the readout, the payload's numbers. */
function state() {
  return page.evaluate(() => {
    const node = window.app.graph.nodes.find((candidate) => candidate.type === 'LatentSyncPreview')
    const root = node.widgets.find((widget) => widget.name === 'latentsync_preview').element.shadowRoot
    const [after, before] = root.querySelectorAll('video')
    const read = ({ currentTime, duration, paused, muted, readyState, videoWidth, loop, playbackRate }) => {
      return { currentTime, duration, paused, muted, readyState, videoWidth, loop, playbackRate }
    }
    return {
      after: read(after),
      before: read(before),
      frame: Number(root.querySelector('.seek').value),
      time: root.querySelector('.time').textContent,
      wipe: Number(root.querySelector('.wipe').getAttribute('aria-valuenow')),
      size: [...node.size],
      payload: window.app.nodeOutputs[node.id]?.latentsync_preview[0]
    }
  })
}

/** Mean difference, 0..255, of the pictures that the two videos show now. */
function difference() {
  return page.evaluate(() => {
    const root = [...document.querySelectorAll('*')].find((element) => element.shadowRoot?.querySelector('.player'))
    const pixels = [...root.shadowRoot.querySelectorAll('video')].map((video) => {
      const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight)
      const context = canvas.getContext('2d')
      context.drawImage(video, 0, 0)
      return context.getImageData(0, 0, canvas.width, canvas.height).data
    })
    return pixels[0].reduce((sum, value, i) => sum + Math.abs(value - pixels[1][i]), 0) / pixels[0].length
  })
}

async function settled() {
  await page.waitForFunction(() => {
    const root = [...document.querySelectorAll('*')].find((element) => element.shadowRoot?.querySelector('.player'))
    const videos = [...root.shadowRoot.querySelectorAll('video')]
    return videos.every((video) => video.readyState >= 2 && !video.seeking)
  })
  await page.waitForTimeout(150)
  return state()
}

before(async () => {
  comfy = await openComfy(ADDRESS)
  page = comfy.page
  await buildGraph()
})

after(() => comfy?.close())

test('before the first run there is a hint and nothing else', async () => {
  await player().waitFor()
  assert.equal(await page.locator('.player .hint').isVisible(), true)
  assert.equal(await page.locator('.player .play').isVisible(), false)
})

test('a run from the page brings the player, with both videos ready', async () => {
  await page.evaluate(() => window.app.queuePrompt(0))
  await shown().waitFor()
  const { after, before, payload, size } = await settled()
  assert.equal(after.videoWidth, payload.width)
  assert.ok(Math.abs(after.duration * payload.fps - payload.frames) < 1.5, `${after.duration} s of ${payload.frames}`)
  assert.ok(before.muted && !after.muted, 'the sound comes from the result')
  assert.ok(size[1] > 400, `the node makes room for the picture: ${size}`)
  assert.equal(await page.locator('.comfy-img-preview').count(), 0, 'no second video of the same file')
  await screenshot(page, 'preview')
})

test('arrows step by frames, Home and End go to the ends, and both videos show the same frame', async () => {
  await player().focus()
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowLeft')
  let now = await settled()
  assert.equal(now.frame, 1)
  assert.match(now.time, /0:00\.04\s+2 \//)
  await page.keyboard.press('Shift+ArrowRight')
  now = await settled()
  assert.equal(now.frame, 11)
  assert.ok(Math.abs(now.after.currentTime - 11.5 * ONE_FRAME) < 1e-3, 'the middle of the frame')
  assert.ok((await difference()) < 1, 'same pictures')
  await page.keyboard.press('End')
  now = await settled()
  assert.equal(now.frame, now.payload.frames - 1)
  assert.ok((await difference()) < 1, 'same pictures at the end')
  await page.keyboard.press('Home')
  assert.equal((await settled()).frame, 0)
})

test('playing goes on, keeps both together, and pausing leaves both at one frame', async () => {
  await page.locator('.play').click()
  await page.waitForTimeout(700)
  const playing = await state()
  assert.ok(!playing.after.paused && !playing.before.paused)
  assert.ok(Math.abs(playing.after.currentTime - playing.before.currentTime) < 0.2)
  await player().focus()
  await page.keyboard.press('Space')
  const now = await settled()
  assert.ok(now.after.paused && now.before.paused)
  assert.ok(now.after.currentTime > 0)
  assert.ok((await difference()) < 1, 'same pictures after a pause')
})

test('a video that loops takes the other along', async () => {
  await page.locator('.rate').selectOption('2')
  await page.locator('.play').click()
  await page.waitForTimeout(2000)
  const { after, before } = await state()
  assert.ok(!after.paused && !before.paused, 'longer than the clip')
  assert.ok(Math.abs(after.currentTime - before.currentTime) < 0.4, `${after.currentTime} ${before.currentTime}`)
  await page.locator('.play').click()
  await page.locator('.rate').selectOption('1')
  await settled()
})

test('the face track lies on the picture and follows the frame', async () => {
  await player().focus()
  await page.keyboard.press('Home')
  await settled()
  await page.keyboard.press('t')
  const drawn = () => page.locator('.pane.after .crop.over').getAttribute('d')
  const first = await drawn()
  const { payload } = await state()
  assert.deepEqual(first.match(/-?[\d.]+/g).map(Number), payload.track.corners[0])
  await page.keyboard.press('End')
  const last = await settled()
  assert.deepEqual((await drawn()).match(/-?[\d.]+/g).map(Number), payload.track.corners[last.frame])
  const box = (tag) => page.locator(`.pane.after ${tag}`).boundingBox()
  const [video, svg] = [await box('video'), await box('svg')]
  assert.deepEqual(svg, video)
  await screenshot(page, 'track')
})

test('the border moves with the pointer and with the keys, but never the graph', async () => {
  const { x, y, width, height } = await page.locator('.picture').boundingBox()
  const position = () => page.evaluate(() => [...window.app.graph.nodes.at(-1).pos])
  const old = await position()
  await page.mouse.move(x + width / 2, y + height / 2)
  await page.mouse.down()
  await page.mouse.move(x + width / 4, y + height / 2, { steps: 4 })
  await page.mouse.up()
  assert.ok(Math.abs((await state()).wipe - 25) <= 1)
  await page.locator('.wipe').focus()
  await page.keyboard.press('Shift+ArrowRight')
  assert.ok(Math.abs((await state()).wipe - 35) <= 1)
  assert.deepEqual(await position(), old)
})

test('side by side and after only', async () => {
  await page.locator('[data-mode=side]').click()
  const [first, second] = await Promise.all(['before', 'after'].map((name) => page.locator(`.${name}`).boundingBox()))
  assert.ok(first.x + first.width <= second.x && Math.abs(first.width - second.width) < 1)
  await screenshot(page, 'side')
  await page.locator('[data-mode=after]').click()
  assert.equal(await page.locator('.pane.before').isVisible(), false)
  await page.locator('[data-mode=wipe]').click()
})

test('colours are those of the theme', async () => {
  const colour = () => player().evaluate((element) => getComputedStyle(element).backgroundColor)
  const themed = (value) =>
    page.evaluate((text) => document.documentElement.style.setProperty('--comfy-menu-bg', text), value)
  const old = await page.evaluate(() => document.documentElement.style.getPropertyValue('--comfy-menu-bg'))
  await themed('rgb(1, 2, 3)')
  assert.equal(await colour(), 'rgb(1, 2, 3)')
  await themed(old)
})

test('nothing of the player is saved in the workflow', async () => {
  const [values, own] = await page.evaluate(() => {
    const node = window.app.graph.nodes.find((candidate) => candidate.type === 'LatentSyncPreview')
    const index = node.widgets.findIndex((widget) => widget.name === 'latentsync_preview')
    return [node.serialize().widgets_values, node.serialize().widgets_values[index]]
  })
  assert.equal(values[0], 25, 'the frame rate, at its place')
  assert.equal(own ?? null, null)
})

test('after a reload of the page the last run is back', async () => {
  await page.waitForTimeout(1500) // the page saves its draft a moment after the last change
  await page.reload()
  await ready(page)
  await shown().waitFor()
  assert.ok((await settled()).after.readyState >= 2)
})

test('a removed node stops and lets go of its files', async () => {
  const left = await page.evaluate(() => {
    const node = window.app.graph.nodes.find((candidate) => candidate.type === 'LatentSyncPreview')
    const { element } = node.widgets.find((widget) => widget.name === 'latentsync_preview')
    const videos = [...element.shadowRoot.querySelectorAll('video')]
    window.app.graph.remove(node)
    return videos.map((video) => [video.paused, video.hasAttribute('src')])
  })
  assert.deepEqual(left, [[true, false], [true, false]])
  await page.waitForTimeout(300)
  assert.equal(await player().count(), 0)
})

test('the page had no errors from this pack', () => {
  assert.deepEqual(ours(comfy.errors), [])
})
