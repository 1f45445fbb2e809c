/** Opens the page of a running ComfyUI in Chromium and reads what it says about itself. */

import { createRequire } from 'node:module'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

const { chromium } = createRequire(import.meta.url)(process.env.PLAYWRIGHT_CORE || 'playwright-core')

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required']

const PATIENCE = 300000 // milliseconds; the page is 20 MB and the machine may be busy

/** Quiet start: no tutorial, no dialog about releases, a known theme. */
const SETTINGS = {
  'Comfy.TutorialCompleted': true,
  'Comfy.Release.Status': 'skipped',
  'Comfy.Workflow.ShowMissingModelsWarning': false,
  'Comfy.Notification.ShowVersionUpdates': false
}

/** { page, errors, close }: `errors` collects console errors and exceptions as the page goes on. */
export async function openComfy(address, { theme = 'dark', settings = {}, size = [1280, 900] } = {}) {
  const values = { ...SETTINGS, 'Comfy.ColorPalette': theme, ...settings }
  const reply = await fetch(`${address}/api/settings`, { method: 'POST', body: JSON.stringify(values) })
  if (!reply.ok) throw new Error(`The server refused the settings: ${reply.status}`)
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS })
  try {
    const page = await browser.newPage({ viewport: { width: size[0], height: size[1] } })
    page.setDefaultTimeout(PATIENCE)
    page.setDefaultNavigationTimeout(PATIENCE)
    const errors = []
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(`${message.text()} (${message.location().url})`)
    })
    page.on('pageerror', (error) => errors.push(`${error.message}\n${error.stack}`))
    await page.goto(address)
    await ready(page)
    return { page, errors, close: () => browser.close() }
  } catch (error) {
    await browser.close()
    throw error
  }
}

export async function ready(page) {
  await page.waitForFunction(() => window.app?.extensionManager && window.app.graph && window.LiteGraph)
  await page.waitForFunction(() => window.app.extensions?.length && !document.querySelector('#splash-loader'))
  await page.waitForTimeout(1000) // the workflow of the last visit loads after the extensions
}

/** Whether this frontend draws nodes in Vue, too (Nodes 2.0): the one of 0.3.64 only tries to. */
export async function hasVueNodes(address) {
  const { system } = await (await fetch(`${address}/api/system_stats`)).json()
  const [, minor] = (system.required_frontend_version ?? '1.0').split('.')
  return Number(minor) >= 40
}

/** Runs what is open, with one step for each sampler, and throws what the run fails with. */
export async function runGraph(page) {
  const failed = await page.evaluate(async () => {
    const { api, graph } = window.app
    for (const node of graph.nodes) {
      for (const widget of node.widgets ?? []) if (widget.name === 'steps') widget.value = 1
    }
    const end = new Promise((resolve) => {
      api.addEventListener('execution_success', () => resolve(null))
      api.addEventListener('execution_error', ({ detail }) => resolve(`${detail.node_type}: ${detail.exception_message}`))
    })
    await window.app.queuePrompt(0)
    const refused = window.app.lastNodeErrors ?? {}
    return Object.keys(refused).length ? JSON.stringify(refused) : end
  })
  if (failed) throw new Error(failed)
  await page.waitForTimeout(3000) // previews load and make room for themselves
}

/** Puts a picture of the page into the folder that the environment names, where it names one. */
export async function screenshot(page, name, options = {}) {
  const folder = process.env.LATENTSYNC_SCREENSHOTS
  if (!folder) return
  mkdirSync(folder, { recursive: true })
  await page.screenshot({ path: join(folder, `${name}.png`), ...options })
}

/** The errors that come from this pack: its name is in the text or in the address of the script. */
export function ours(errors) {
  return errors.filter((text) => /latentsync/i.test(text))
}
