import { FaceTrackOverlay, faceRuns, faceState } from './face_track.js'
import { PairedVideos } from './paired_videos.js'
import { MUTED, PAUSE, PLAY, SOUND, TEMPLATE } from './player_template.js'

const styles = new CSSStyleSheet()
fetch(new URL('./player.css', import.meta.url)).then(async (reply) => reply.ok && styles.replace(await reply.text()))

/** Classes of the parts in the template. */
const PARTS =
  'player stage picture wipe message runs seek time track full play back forward loop mute rate'.split(' ')
const KEYS = { ' ': 'play', m: 'mute', l: 'loop', t: 'track' }

/** A player for a lip-synced video beside its source. It knows nothing of ComfyUI and lives in its own shadow tree. */
export class ComparePlayer {
  #closing = new AbortController()
  #parts = {}
  #overlays
  #videos
  #clip = null

  /** `translate` gives the words of a text in the reader's language. */
  constructor(translate = (text) => text) {
    this.translate = translate
    this.element = document.createElement('div')
    const root = this.element.attachShadow({ mode: 'open' })
    root.adoptedStyleSheets = [styles]
    root.innerHTML = TEMPLATE
    translateWords(root, translate)
    for (const name of PARTS) this.#parts[name] = root.querySelector(`.${name}`)
    this.#parts.modes = [...root.querySelectorAll('[data-mode]')]
    const [after, before] = root.querySelectorAll('video')
    before.muted = true
    this.#overlays = [...root.querySelectorAll('.pane > svg')].map((svg) => new FaceTrackOverlay(svg))
    this.#videos = new PairedVideos(after, before, (frame) => this.#onFrame(frame), this.#closing.signal)
    this.#connect()
    this.mode = 'wipe'
    this.wipe = 50
    this.loop = true
    this.muted = false
    this.showTrack = false
    this.#showPlaying()
  }

  /** True once a clip was loaded. */
  get filled() {
    return this.#clip !== null
  }

  /** Height in CSS pixels that shows the clip at a width of `width`; upright clips get a square. */
  heightFor(width) {
    const { clientHeight: whole } = this.#parts.player
    const controls = whole ? whole - this.#parts.stage.clientHeight : 120
    return Math.round(width * Math.min(this.#clip.height / this.#clip.width, 1)) + controls
  }

  /**
   * Shows another clip; mode, speed and toggles stay as they are.
   * @param {object} clip
   * @param {string} clip.after address of the result; its sound is heard
   * @param {?string} clip.before address of the source, null where there is none
   * @param {number} clip.fps frames per second; `clip.frames` of them, `clip.width` by `clip.height` pixels
   * @param {?object} clip.track see FaceTrackOverlay
   */
  load(clip) {
    const { player, seek, message, runs } = this.#parts
    this.#clip = clip
    player.classList.remove('empty')
    player.classList.toggle('alone', clip.before === null)
    player.classList.toggle('trackless', clip.track === null)
    player.style.setProperty('--aspect', clip.width / clip.height)
    message.hidden = true
    seek.max = clip.frames - 1
    runs.replaceChildren(...faceRuns(clip.track, clip.frames).map(runElement))
    for (const overlay of this.#overlays) overlay.load(clip.track, clip.width, clip.height)
    this.#videos.load(clip)
    this.#videos.rate = Number(this.#parts.rate.value)
    this.#onFrame(0)
  }

  pause() {
    this.#videos.pause()
  }

  destroy() {
    this.#closing.abort()
    this.#videos.unload()
    this.element.remove()
  }

  /** 'wipe', 'side' or 'after': what the user chose. */
  set mode(mode) {
    this.#parts.player.dataset.mode = mode
    for (const button of this.#parts.modes) press(button, button.dataset.mode === mode)
  }

  get mode() {
    return this.#parts.player.dataset.mode
  }

  /** Share of the width, in percent, left of which `before` is shown. */
  set wipe(percent) {
    const kept = Math.min(Math.max(percent, 0), 100)
    this.#parts.player.style.setProperty('--wipe', `${kept}%`)
    this.#parts.wipe.setAttribute('aria-valuenow', Math.round(kept))
  }

  get wipe() {
    return Number(this.#parts.wipe.getAttribute('aria-valuenow'))
  }

  set loop(on) {
    this.#videos.after.loop = on
    press(this.#parts.loop, on)
  }

  get loop() {
    return this.#videos.after.loop
  }

  set muted(on) {
    const { mute } = this.#parts
    this.#videos.after.muted = on
    mute.innerHTML = on ? MUTED : SOUND
    mute.setAttribute('aria-label', this.translate(on ? 'Sound on' : 'Sound off'))
  }

  get muted() {
    return this.#videos.after.muted
  }

  set showTrack(on) {
    this.#parts.player.classList.toggle('tracked', on)
    press(this.#parts.track, on)
  }

  get showTrack() {
    return this.#parts.player.classList.contains('tracked')
  }

  togglePlay() {
    if (this.#videos.playing) this.#videos.pause()
    else this.#videos.play()
  }

  /** Stops at the frame `count` frames on (back where negative). */
  step(count) {
    const from = this.#videos.wanted ?? this.#videos.frame
    this.#videos.pause()
    this.#videos.seek(from + count)
  }

  #connect() {
    const { signal } = this.#closing
    const { player, picture, seek, rate, modes, play, back, forward, loop, mute, track, full } = this.#parts
    const on = (part, event, action) => part.addEventListener(event, action, { signal })
    for (const button of modes) on(button, 'click', () => (this.mode = button.dataset.mode))
    on(play, 'click', () => this.togglePlay())
    on(back, 'click', (event) => this.step(event.shiftKey ? -10 : -1))
    on(forward, 'click', (event) => this.step(event.shiftKey ? 10 : 1))
    on(loop, 'click', () => (this.loop = !this.loop))
    on(mute, 'click', () => (this.muted = !this.muted))
    on(track, 'click', () => (this.showTrack = !this.showTrack))
    on(full, 'click', () => (document.fullscreenElement ? document.exitFullscreen() : player.requestFullscreen()))
    on(seek, 'input', () => this.#videos.seek(Number(seek.value)))
    on(rate, 'change', () => (this.#videos.rate = Number(rate.value)))
    on(player, 'keydown', (event) => this.#onKey(event))
    on(picture, 'click', () => this.#wiping || this.togglePlay())
    on(picture, 'pointerdown', (event) => this.#startDrag(event))
    on(picture, 'pointermove', (event) => picture.hasPointerCapture(event.pointerId) && this.#drag(event))
    for (const video of [this.#videos.after, this.#videos.before]) on(video, 'error', () => this.#onError(video))
    for (const event of ['play', 'pause', 'ended']) on(this.#videos.after, event, () => this.#showPlaying())
    const sizes = new ResizeObserver(() => this.element.offsetWidth || this.pause()) // hidden with its node or tab
    sizes.observe(this.element)
    signal.addEventListener('abort', () => sizes.disconnect())
  }

  get #wiping() {
    return this.mode === 'wipe' && Boolean(this.#clip?.before)
  }

  #startDrag(event) {
    if (!this.#wiping || event.button !== 0) return
    this.#parts.picture.setPointerCapture(event.pointerId)
    this.#drag(event)
  }

  #drag(event) {
    const { left, width } = this.#parts.picture.getBoundingClientRect()
    this.wipe = ((event.clientX - left) / width) * 100
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const target = event.composedPath()[0]
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (target.matches('select') || (event.key === ' ' && target.matches('button'))) return
    if (direction && target.matches('.wipe')) this.wipe += direction * (event.shiftKey ? 10 : 1)
    else if (direction) this.step(direction * (event.shiftKey ? 10 : 1))
    else if (event.key === 'Home') this.step(-Infinity)
    else if (event.key === 'End') this.step(Infinity)
    else if (event.key.toLowerCase() in KEYS) this.#parts[KEYS[event.key.toLowerCase()]].click()
    else return
    event.preventDefault()
    event.stopPropagation() // the same keys mean other things to the graph
  }

  #onFrame(frame) {
    if (!this.#clip) return
    const { fps, frames, track } = this.#clip
    const { seek, time } = this.#parts
    seek.value = frame
    seek.setAttribute('aria-valuetext', `${frame + 1} / ${frames}`)
    time.textContent = `${clock(frame / fps)}  ${String(frame + 1).padStart(String(frames).length)} / ${frames}`
    for (const overlay of this.#overlays) overlay.show(frame)
    seek.title = track ? this.translate(FACE_STATES[faceState(track, frame)]) : ''
  }

  #showPlaying() {
    const { play } = this.#parts
    play.innerHTML = this.#videos.playing ? PAUSE : PLAY
    play.setAttribute('aria-label', this.translate(this.#videos.playing ? 'Pause' : 'Play'))
  }

  #onError(video) {
    if (!video.hasAttribute('src')) return
    const { message } = this.#parts
    message.hidden = false
    message.textContent = this.translate(
      'This preview cannot be played. Temporary files go when ComfyUI restarts: run the workflow again.'
    )
  }
}

const FACE_STATES = { found: 'Face found', bridged: 'Face followed through a gap', none: 'No face in this frame' }

function translateWords(root, translate) {
  for (const element of root.querySelectorAll('*')) {
    for (const name of ['title', 'aria-label']) {
      if (element.hasAttribute(name)) element.setAttribute(name, translate(element.getAttribute(name)))
    }
    const [text] = element.childNodes
    if (element.childNodes.length === 1 && text.nodeType === Node.TEXT_NODE) text.data = translate(text.data)
  }
}

function press(button, on) {
  button.setAttribute('aria-pressed', String(on))
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, '0')}`
}

function runElement({ state, start, end }) {
  const element = document.createElement('i')
  element.className = state
  element.style.flexGrow = end - start
  return element
}
