/** Drift that a change of speed repairs; beyond it the follower jumps. Seconds. */
const LARGEST_DRIFT = 0.25

/**
 * Two videos that show the same frame at the same time: `after` leads and has the sound, `before` follows, muted.
 *
 * Frame k of n lies at the times [k / fps, (k + 1) / fps); a seek goes to the middle of it, so that rounding of time
 * stamps never shows a neighbour. A `before` that is shorter holds its last frame.
 */
export class PairedVideos {
  /**
   * @param {HTMLVideoElement} after
   * @param {HTMLVideoElement} before
   * @param {(frame: number) => void} onFrame called whenever another frame is shown
   * @param {AbortSignal} signal ends all listening
   */
  constructor(after, before, onFrame, signal) {
    Object.assign(this, { after, before, onFrame, signal, fps: 25, frames: 0, paired: false, wanted: null })
    const report = () => this.#report(this.after.currentTime)
    after.addEventListener('seeked', () => (this.#seekWanted(), report()), { signal })
    after.addEventListener('timeupdate', report, { signal })
    after.addEventListener('pause', () => this.#stopFollower(), { signal })
    after.addEventListener('loadeddata', report, { signal })
    this.#watch()
  }

  /** `before` is null where there is nothing to compare with. fps in frames per second, `frames` of `after`. */
  load({ after, before, fps, frames }) {
    Object.assign(this, { fps, frames, paired: before !== null, wanted: null })
    this.after.src = after
    if (before === null) this.before.removeAttribute('src')
    else this.before.src = before
  }

  unload() {
    for (const video of [this.after, this.before]) {
      video.pause()
      video.removeAttribute('src')
      video.load() // lets go of the file and of the decoder
    }
  }

  get playing() {
    return !this.after.paused && !this.after.ended
  }

  get frame() {
    return this.#frameAt(this.after.currentTime)
  }

  async play() {
    if (this.paired) this.before.currentTime = this.after.ended ? 0 : this.#followed(this.after.currentTime)
    await Promise.all([start(this.after), this.paired && start(this.before)])
  }

  pause() {
    this.after.pause()
  }

  /** Shows frame k, 0 <= k < frames (values outside are clamped), playing or not. */
  seek(frame) {
    this.wanted = Math.min(Math.max(frame, 0), this.frames - 1)
    if (!this.after.seeking) this.#seekWanted()
  }

  set rate(rate) {
    this.after.playbackRate = rate
    this.before.playbackRate = rate
  }

  /** One seek at a time: dragging the bar shows pictures on the way instead of restarting the decoder at each step. */
  #seekWanted() {
    if (this.wanted === null) return
    const time = (this.wanted + 0.5) / this.fps
    this.wanted = null
    this.after.currentTime = time
    if (this.paired) this.before.currentTime = this.#followed(time)
  }

  #stopFollower() {
    this.before.pause()
    if (this.paired) this.before.currentTime = this.#followed((this.frame + 0.5) / this.fps)
  }

  /** Called for each picture that reaches the screen, where the browser can tell; else with each repaint. */
  #watch() {
    const video = this.after
    const next = video.requestVideoFrameCallback
      ? (callback) => video.requestVideoFrameCallback((_, { mediaTime }) => callback(mediaTime))
      : (callback) => requestAnimationFrame(() => callback(video.currentTime))
    const onPicture = (time) => {
      if (this.signal.aborted) return
      if (this.playing) {
        this.#follow()
        this.#report(time)
      }
      next(onPicture)
    }
    next(onPicture)
  }

  #follow() {
    const { after, before } = this
    if (!this.paired || before.seeking || before.readyState < HTMLMediaElement.HAVE_METADATA) return
    const target = this.#followed(after.currentTime)
    const drift = target - before.currentTime
    if (Math.abs(drift) > LARGEST_DRIFT) before.currentTime = target
    before.playbackRate = after.playbackRate * (1 + Math.max(-0.1, Math.min(0.1, drift)))
    if (before.paused && target < this.#followed(Infinity)) start(before)
  }

  #followed(time) {
    return Math.min(time, Math.max(0, (this.before.duration || 0) - 0.5 / this.fps))
  }

  #frameAt(time) {
    // A time stamp may lie a rounding error before its frame.
    return Math.min(Math.floor(time * this.fps + 0.01), Math.max(this.frames - 1, 0))
  }

  #report(time) {
    this.onFrame(this.#frameAt(time))
  }
}

async function start(video) {
  try {
    await video.play()
  } catch (error) {
    // Paused or unloaded before the first picture was there; anything else shows as the element's own error.
    if (error.name !== 'AbortError' && error.name !== 'NotSupportedError') throw error
  }
}
