// What happens around the client: the page is hidden or shown, the network goes or comes.
// React Native has no `document`: pass `surroundings: (react) => ...` and call the same four functions
// from AppState and NetInfo.

/**
 * The browser's events, or nothing where there is no browser.
 * @param {{hidden(): void, shown(): void, online(): void, offline(): void}} react
 * @returns {() => void} stops listening
 */
export function browserSurroundings(react) {
  const page = globalThis.document;
  const stops = [];
  const listen = (target, type, fn) => {
    target.addEventListener(type, fn);
    stops.push(() => target.removeEventListener(type, fn));
  };
  if (page?.addEventListener) {
    listen(page, "visibilitychange", () => (page.visibilityState === "hidden" ? react.hidden() : react.shown()));
    if (page.visibilityState === "hidden") react.hidden();
  }
  if (typeof globalThis.addEventListener === "function" && page) {
    listen(globalThis, "online", () => react.online());
    listen(globalThis, "offline", () => react.offline());
    // a page taken from the back/forward cache has a dead socket and may get no other event
    listen(globalThis, "pageshow", (event) => event.persisted && react.online());
  }
  return () => stops.splice(0).forEach((stop) => stop());
}
