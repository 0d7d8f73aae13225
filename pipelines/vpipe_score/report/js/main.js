// Puts the page together and follows the address: #v=<id> is a video's panel.

let cameFrom = null;

function followAddress() {
  const panel = byId("panel");
  const row = location.hash.startsWith("#v=") ? rowById.get(location.hash.slice(3)) : null;
  if (!row) {
    if (panel.open) panel.close();
    return;
  }
  if (!panel.open) cameFrom = document.activeElement;
  drawPanel(row);
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
  if (location.hash.startsWith("#v=")) history.replaceState(null, "", "#");
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
