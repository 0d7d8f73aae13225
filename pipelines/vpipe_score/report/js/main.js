// Puts the page together and follows the address: #v=<id> is a video's panel.

let cameFrom = null;
let opened = ""; // the address that the panel was opened for

function followAddress() {
  const panel = byId("panel");
  const row = location.hash.startsWith("#v=") ? rowById.get(location.hash.slice(3)) : null;
  if (!row) {
    if (panel.open) panel.close();
    return;
  }
  if (!panel.open) cameFrom = document.activeElement;
  drawPanel(row);
  opened = location.hash;
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  byId("close").focus({ focusVisible: false });
}

function showTableOf(change) {
  byId("search").value = "";
  showOnly({ text: "", grade: "", fault: "", ...change });
  byId("h-videos").scrollIntoView({ block: "start" });
}

byId("panel").addEventListener("close", () => {
  // The event comes a moment after the panel is gone: by then another video may have been asked for, even be open.
  if (byId("panel").open) return;
  if (location.hash === opened) history.replaceState(null, "", "#");
  if (cameFrom?.isConnected) cameFrom.focus({ preventScroll: true });
});
byId("panel").addEventListener("click", (event) => {
  if (event.target === byId("panel")) closePanel(); // beside the panel, on what it covers
});
addEventListener("hashchange", followAddress);

drawTiles(() => showTableOf({ grade: "failed" }));
drawHistogram();
drawFaults((fault) => showTableOf({ fault }));
prepareTable();
drawTable();
drawRun();
followAddress();
document.documentElement.dataset.ready = "";
