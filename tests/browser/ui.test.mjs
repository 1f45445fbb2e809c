/** The page of `python -m latentsync ui`: upload, watch, play, cancel, and what it refuses. */

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import test, { after, before } from 'node:test'
import { screenshot } from './page.mjs'

const { chromium } = createRequire(import.meta.url)(process.env.PLAYWRIGHT_CORE || 'playwright-core')
const { PAGE_ADDRESS: ADDRESS, PAGE_VOICE: VOICE, PAGE_TEXT: TEXT, PAGE_LARGE: LARGE } = process.env
const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required']
const PATIENCE = 300000 // milliseconds; the machine may be busy

let browser, page
const errors = []
const elsewhere = []

const button = (name, on = page) => on.getByRole('button', { name, exact: true })
const status = (on = page) => on.locator('.ls-status')
const says = (words, on = page) => on.locator('.ls-status', { hasText: words }).waitFor()
const file = (box, path, on = page) => on.locator(`${box} input[type=file]`).setInputFiles(path)

async function set(name, value, on = page) {
  const field = on.getByRole('spinbutton', { name: new RegExp(name) })
  await field.fill(String(value))
  await field.press('Tab')
}

async function open(options = {}) {
  const fresh = await browser.newPage({ viewport: { width: 1280, height: 800 }, ...options })
  fresh.setDefaultTimeout(PATIENCE)
  fresh.on('request', (request) => {
    if (!request.url().startsWith(ADDRESS) && /^(https?|wss?):/.test(request.url())) elsewhere.push(request.url())
  })
  fresh.on('console', (message) => {
    if (message.type() === 'error') errors.push(`${message.text()} (${message.location().url})`)
  })
  fresh.on('pageerror', (error) => errors.push(`${error.message}\n${error.stack}`))
  await fresh.goto(ADDRESS)
  await button('Run', fresh).waitFor()
  return fresh
}

before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS })
  page = await open()
})

after(() => browser?.close())

test('everything that a run needs is in sight', async () => {
  await screenshot(page, 'ui_start')
  for (const part of [page.locator('#ls-video'), page.locator('#ls-audio'), button('Run'), button('Cancel')]) {
    const box = await part.boundingBox()
    assert.ok(box.y >= 0 && box.y + box.height <= 800, `${await part.innerText()} ends at ${box.y + box.height}`)
  }
  await page.getByText('No checkpoint here').waitFor()
  assert.ok(await button('Run').isEnabled())
  assert.ok(await button('Cancel').isDisabled())
})

test('without files a run is refused in a sentence', async () => {
  await button('Run').click()
  await says('there is no video: upload one, record one, or use the sample clip')
})

test('a file over the limit is refused with the limit', async () => {
  await file('#ls-video', LARGE)
  await page.getByText(/exceed the maximum allowed size of 1(\.0)? GB/i).first().waitFor()
  await screenshot(page, 'ui_large')
})

test('a text that is called .mp4 is refused in a sentence', async () => {
  await file('#ls-video', TEXT)
  await page.locator('#ls-video video').waitFor({ state: 'attached' })
  await file('#ls-audio', VOICE)
  await page.locator('#ls-audio').getByLabel('Play', { exact: true }).waitFor()
  await button('Run').click()
  await says('text.mp4 is not readable as video: it is damaged, incomplete or not a media file')
  await screenshot(page, 'ui_text')
  assert.ok(await button('Run').isEnabled())
})

test('the sample clip, and where its face is', async () => {
  await button('Use the sample clip').click()
  await page.waitForFunction(() => document.querySelector('#ls-video video')?.videoWidth > 0)
  await screenshot(page, 'ui_sample')
  await button('Preview the face').click()
  await says('The chosen face is green')
  await page.waitForFunction(() => {
    const pictures = [...document.querySelectorAll('#ls-faces img')]
    return pictures.length === 6 && pictures.every((picture) => picture.naturalWidth > 0)
  })
  await screenshot(page, 'ui_faces')
})

test('a run is watched, and its result plays', async () => {
  await page.locator('#ls-audio').getByLabel('Clear').click()
  await file('#ls-audio', VOICE)
  await page.locator('#ls-audio').getByLabel('Play', { exact: true }).waitFor()
  await set('Inference steps', 4)
  await button('Run').click()
  await says(/Syncing, \d+ of 12 frames/)
  assert.ok(await button('Run').isDisabled())
  await screenshot(page, 'ui_running')
  await says('12 frames at 25 per second, the face is in 12 of them')
  const player = page.locator('latentsync-player')
  await player.evaluate(async ({ after, before }) => {
    const ready = (video) => video.readyState > 2 || new Promise((done) => video.addEventListener('canplay', done))
    await Promise.all([ready(after), ready(before)])
  })
  await screenshot(page, 'ui_result')
  await player.getByRole('button', { name: 'Play' }).click()
  const played = await player.evaluate(async ({ after, before }) => {
    while (!after.ended) await new Promise(requestAnimationFrame)
    const seconds = after.played.end(0) - after.played.start(0)
    return { seconds, length: after.duration, width: after.videoWidth, sound: !after.muted, silent: before.muted }
  })
  assert.ok(Math.abs(played.length - 0.48) < 0.1 && played.seconds > 0.3, `${played.seconds} of ${played.length} s played`)
  assert.ok(played.width === 320 && played.sound && played.silent)
  await player.getByRole('button', { name: 'Side by side' }).click()
  await screenshot(page, 'ui_side')
})

test('the border of the wipe follows, and seeking moves both videos', async () => {
  const player = page.locator('latentsync-player')
  await player.getByRole('button', { name: 'Wipe' }).click()
  await player.getByLabel('Border between before and after').fill('20')
  assert.equal(await player.evaluate((p) => p.section.style.getPropertyValue('--at')), '20%')
  await player.getByLabel('Time').fill('0.2')
  const times = await player.evaluate(async ({ after, before }) => {
    while (after.seeking || before.seeking || before.currentTime === 0) await new Promise(requestAnimationFrame)
    return [after.currentTime, before.currentTime]
  })
  assert.ok(Math.abs(times[0] - times[1]) < 0.05 && Math.abs(times[0] - 0.2) < 0.05)
})

test('the result can be downloaded', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByText('Download the result').click()])
  assert.equal(download.suggestedFilename(), 'talking_head_lipsync.mp4')
})

test('a second run is cancelled, and the first result stays', async () => {
  await set('Inference steps', 100)
  await button('Run').click()
  await says(/Syncing, \d+ of 12 frames/)
  await button('Cancel').click()
  await says('Cancelled')
  await screenshot(page, 'ui_cancelled')
  assert.ok(await button('Run').isEnabled())
  assert.ok(await page.locator('latentsync-player').isVisible())
})

test('all settings of the command are there', async () => {
  await page.getByRole('button', { name: 'More settings' }).click()
  await page.getByText('Crf', { exact: true }).waitFor()
  await screenshot(page, 'ui_settings', { fullPage: true })
})

test('closing the page ends its run', async () => {
  const other = await open()
  await button('Use the sample clip', other).click()
  await other.waitForFunction(() => document.querySelector('#ls-video video')?.videoWidth > 0)
  await set('Inference steps', 100, other)
  await button('Run', other).click()
  await says(/Syncing, \d+ of 80 frames/, other)
  await button('Run').click()
  await says('Waiting: one run is ahead of yours')
  await screenshot(page, 'ui_waiting')
  await other.close()
  await says(/Syncing, \d+ of 12 frames/)
  await button('Cancel').click()
  await says('Cancelled')
})

test('it is dark where the system is, and fits a phone', async () => {
  await page.setViewportSize({ width: 400, height: 860 })
  await page.waitForTimeout(500)
  await screenshot(page, 'ui_phone', { fullPage: true })
  assert.ok((await page.evaluate(() => document.scrollingElement.scrollWidth)) <= 400, 'the page is wider than the phone')
  const dark = await open({ colorScheme: 'dark' })
  await button('Use the sample clip', dark).click()
  await dark.waitForFunction(() => document.querySelector('#ls-video video')?.videoWidth > 0)
  await button('Preview the face', dark).click()
  await says('The chosen face is green', dark)
  await dark.waitForTimeout(1000)
  await screenshot(dark, 'ui_dark')
})

test('no other server was asked, and nothing went wrong in the page', () => {
  assert.deepEqual(elsewhere, [])
  // What gradio says about an upload that it refused itself.
  assert.deepEqual(errors.filter((text) => !/upload_progress|^Method not implemented|^Response \(/.test(text)), [])
})
