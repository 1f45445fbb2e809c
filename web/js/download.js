import { app } from '../../../scripts/app.js'

/** What Download LatentSync Models has fetched appears in the lists of the loaders, without the R key. */
app.registerExtension({
  name: 'LatentSync.Download',
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== 'LatentSyncDownloadModels') return
    const original = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (...args) {
      original?.apply(this, args)
      app.refreshComboInNodes?.()
    }
  }
})
