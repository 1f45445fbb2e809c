import { fileUrl, showOutput } from './output_widget.js'
import { ComparePlayer } from './player.js'
import { translate } from './words.js'

class ServedPlayer extends ComparePlayer {
  load(clip) {
    const { after, before, track } = clip
    super.load({ ...clip, after: fileUrl(after), before: before ? fileUrl(before) : null, track: track ?? null })
  }
}

showOutput({
  extension: 'LatentSync.Preview',
  node: 'LatentSyncPreview',
  output: 'latentsync_preview',
  create: () => new ServedPlayer(translate),
  heights: [60, 240]
})
