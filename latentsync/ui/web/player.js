/**
 * <latentsync-player before="..." after="...">: two videos in step, laid over each other or side by side.
 * <latentsync-preview src="...">: 0.mp4, 1.mp4, ... one after the other, as many as the status says are there.
 */

const DRIFT = 0.06 // seconds by which the source may be off before it is moved

const icon = (path) => `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${path}"/></svg>`
const PLAY = icon('M8 5.5v13l11-6.5z')
const PAUSE = icon('M7 5h4v14H7zM13 5h4v14h-4z')
const SOUND = icon('M4 9v6h4l5 4.5v-15L8 9zM15.5 8.5v7a4 4 0 0 0 0-7z')
const MUTED = icon('M4 9v6h4l5 4.5v-15L8 9zM15.5 9.5l1.2-1.2 2 2 2-2 1.2 1.2-2 2.5 2 2.5-1.2 1.2-2-2-2 2-1.2-1.2 2-2.5z')
const FULL = icon('M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z')

const STYLE = `
:host { display: block; }
section { border: 1px solid var(--border-color-primary, #ccc); border-radius: var(--block-radius, 8px); overflow: hidden;
  background: var(--block-background-fill, #fff); color: var(--body-text-color, #222); font: 14px system-ui, sans-serif; }
.bar { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; padding: 6px 8px; }
.bar .time { margin-left: auto; font-variant-numeric: tabular-nums; }
button { font: inherit; color: inherit; background: var(--button-secondary-background-fill, #eee); cursor: pointer;
  border: 1px solid var(--border-color-primary, #ccc); border-radius: 6px; padding: 3px 10px; min-height: 30px; }
button[aria-pressed=true] { background: var(--color-accent, #2563eb); border-color: transparent; color: #fff; }
button.icon { padding: 3px 8px; }
button:focus-visible, input:focus-visible { outline: 2px solid var(--color-accent, #2563eb); outline-offset: 1px; }
svg { width: 20px; height: 20px; fill: currentColor; display: block; }
.stage { background: #000; display: flex; justify-content: center; }
.picture { position: relative; display: grid; max-width: 100%; }
section[data-mode=side] .picture { width: 100%; grid-template-columns: 1fr 1fr; gap: 2px; }
.pane { position: relative; grid-area: 1 / 1; display: flex; justify-content: center; }
video[hidden] { display: none !important; }
video { display: block; max-width: 100%; max-height: min(56vh, 520px); width: auto; }
.tag { position: absolute; top: 6px; padding: 1px 8px; border-radius: 9px; background: #000a; color: #fff; font-size: 12px; }
.after .tag { right: 6px; } .before .tag { left: 6px; }
section[data-mode=wipe] .before { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
section[data-mode=wipe] .line { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
section[data-mode=side] .after { grid-area: 1 / 2; }
section[data-mode=after] .before { visibility: hidden; }
.wipe { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
section:not([data-mode=wipe]) :is(.wipe, .line) { display: none; }
.seek { width: 100%; margin: 0; accent-color: var(--color-accent, #2563eb); }
.timeline { padding: 6px 8px 0; }
[role=alert] { margin: 0; padding: 6px 8px; } [role=alert]:empty { display: none; }
section:fullscreen { display: flex; flex-direction: column; } section:fullscreen .stage { flex: 1; align-items: center; }
section:fullscreen video { max-height: 82vh; }
`

const TEMPLATE = `<style>${STYLE}</style>
<section data-mode="wipe" style="--at: 50%" aria-label="Before and after">
  <div class="stage"><div class="picture">
    <div class="pane after"><video playsinline preload="auto"></video><span class="tag">After</span></div>
    <div class="pane before"><video playsinline preload="auto" muted></video><span class="tag">Before</span></div>
    <div class="line"></div>
    <input class="wipe" type="range" min="0" max="100" step="0.5" value="50" aria-label="Border between before and after">
  </div></div>
  <p role="alert"></p>
  <div class="timeline"><input class="seek" type="range" min="0" max="1" step="any" value="0" aria-label="Time"></div>
  <div class="bar">
    <button class="icon play" aria-label="Play">${PLAY}</button>
    <button class="icon mute" aria-label="Sound of the result" aria-pressed="true">${SOUND}</button>
    <button data-mode="wipe">Wipe</button>
    <button data-mode="side">Side by side</button>
    <button data-mode="after">After</button>
    <button class="icon full" aria-label="Full screen">${FULL}</button>
    <span class="time"></span>
  </div>
</section>`

class Player extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return
    const root = this.attachShadow({ mode: 'open' })
    root.innerHTML = TEMPLATE
    const find = (selector) => root.querySelector(selector)
    this.section = find('section')
    this.after = find('.after video')
    this.before = find('.before video')
    this.seek = find('.seek')
    this.time = find('.time')
    this.play = find('.play')
    for (const [video, name] of [[this.after, 'after'], [this.before, 'before']]) {
      video.addEventListener('error', () => this.say(`This browser cannot play the video ${name}: download the result.`))
      video.src = this.getAttribute(name)
    }
    this.before.muted = true // the property: the attribute of markup does nothing here
    this.listen(find)
    this.setMode('wipe')
  }

  disconnectedCallback() {
    this.after?.pause()
    this.before?.pause()
  }

  listen(find) {
    const { after, before } = this
    after.addEventListener('play', () => { this.playing(true); before.play().catch(() => {}); this.follow() })
    after.addEventListener('pause', () => { this.playing(false); before.pause(); this.align() })
    after.addEventListener('seeked', () => this.align())
    for (const event of ['timeupdate', 'durationchange', 'seeked']) after.addEventListener(event, () => this.show())
    this.play.addEventListener('click', () => after.paused ? after.play() : after.pause())
    this.seek.addEventListener('input', () => { after.currentTime = Number(this.seek.value) })
    find('.wipe').addEventListener('input', ({ target }) => this.section.style.setProperty('--at', `${target.value}%`))
    find('.full').addEventListener('click', () => document.fullscreenElement ? document.exitFullscreen() : this.section.requestFullscreen())
    const mute = find('.mute')
    mute.addEventListener('click', () => {
      after.muted = !after.muted
      mute.innerHTML = after.muted ? MUTED : SOUND
      mute.setAttribute('aria-pressed', String(!after.muted))
    })
    for (const button of this.shadowRoot.querySelectorAll('button[data-mode]')) {
      button.addEventListener('click', () => this.setMode(button.dataset.mode))
    }
  }

  setMode(mode) {
    this.section.dataset.mode = mode
    for (const button of this.shadowRoot.querySelectorAll('button[data-mode]')) {
      button.setAttribute('aria-pressed', String(button.dataset.mode === mode))
    }
  }

  playing(on) {
    this.play.innerHTML = on ? PAUSE : PLAY
    this.play.setAttribute('aria-label', on ? 'Pause' : 'Play')
  }

  /** The source is held to the result's time, frame by frame, for as long as that plays. */
  follow() {
    if (this.after.paused || this.after.ended || !this.isConnected) return
    if (Math.abs(this.before.currentTime - this.after.currentTime) > DRIFT) this.align()
    this.show()
    requestAnimationFrame(() => this.follow())
  }

  align() {
    if (!this.before.seeking) this.before.currentTime = this.after.currentTime
  }

  show() {
    const { currentTime, duration } = this.after
    if (!Number.isFinite(duration)) return
    this.seek.max = duration
    this.seek.value = currentTime
    this.time.textContent = `${currentTime.toFixed(1)} / ${duration.toFixed(1)} s`
  }

  say(words) {
    this.shadowRoot.querySelector('[role=alert]').textContent = words
  }
}

const PREVIEW = `<style>${STYLE}</style>
<section aria-label="What is done so far">
  <div class="stage"><video playsinline></video><video playsinline hidden></video></div>
  <div class="bar">
    <button class="icon play" aria-label="Pause">${PAUSE}</button>
    <button class="icon mute" aria-label="Sound" aria-pressed="true">${SOUND}</button>
    <button class="again">From the start</button>
  </div>
</section>`

class Preview extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return
    const root = this.attachShadow({ mode: 'open' })
    root.innerHTML = PREVIEW
    const find = (selector) => root.querySelector(selector)
    this.videos = [...root.querySelectorAll('video')] // the one that is seen, and the one that loads the next piece
    this.play = find('.play')
    this.mute = find('.mute')
    this.restart()
    for (const video of this.videos) {
      video.addEventListener('ended', () => this.go())
      for (const event of ['play', 'pause']) video.addEventListener(event, () => this.show())
    }
    this.play.addEventListener('click', () => this.videos[0].paused ? this.videos[0].play() : this.videos[0].pause())
    this.mute.addEventListener('click', () => this.setMuted(!this.videos[0].muted))
    find('.again').addEventListener('click', () => this.restart())
    this.timer = setInterval(() => this.go(), 200)
  }

  disconnectedCallback() {
    clearInterval(this.timer)
    for (const video of this.videos) video.pause()
  }

  restart() {
    this.next = 0
    this.loaded = false
    this.waits = true // for a piece to go on with
    this.go()
  }

  go() {
    const [seen, hidden] = this.videos
    const pieces = Number(document.querySelector('.ls-status[data-pieces]')?.dataset.pieces ?? 0)
    if (!this.loaded && this.next < pieces) {
      hidden.src = `${this.getAttribute('src')}${this.next++}.mp4`
      this.loaded = true
    }
    this.waits ||= seen.ended || seen.error !== null
    if (!this.waits || !this.loaded) return
    this.videos.reverse()
    hidden.hidden = this.loaded = this.waits = false
    seen.hidden = true
    seen.pause()
    hidden.play().catch(() => { // without a click on the page browsers play nothing aloud
      this.setMuted(true)
      hidden.play().catch(() => {})
    })
    this.go()
  }

  setMuted(on) {
    for (const video of this.videos) video.muted = on
    this.mute.innerHTML = on ? MUTED : SOUND
    this.mute.setAttribute('aria-pressed', String(!on))
  }

  show() {
    const on = !this.videos[0].paused || this.videos[0].ended
    this.play.innerHTML = on ? PAUSE : PLAY
    this.play.setAttribute('aria-label', on ? 'Pause' : 'Play')
  }
}

if (!customElements.get('latentsync-player')) {
  customElements.define('latentsync-player', Player)
  customElements.define('latentsync-preview', Preview)
}
