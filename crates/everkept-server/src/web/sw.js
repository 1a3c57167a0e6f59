// Notices, and a word when the server does not answer.
// Never a cache: what is kept is kept by the server.
"use strict";

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("notificationclick", (event) => {
  event.notification.close();
  const path = event.notification.data?.path ?? "/waiting";
  event.waitUntil(
    clients.matchAll({ type: "window", includeUncontrolled: true }).then(async (open) => {
      const page = open.find((client) => new URL(client.url).origin === location.origin);
      if (!page) return clients.openWindow(path);
      await page.focus();
      return page.navigate(path);
    }),
  );
});

const ABSENT = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Everkept</title><p>The server does not answer. What was said is kept; reload this page when it runs.</p></html>`;

addEventListener("fetch", (event) => {
  if (event.request.mode !== "navigate") return;
  const absent = () => new Response(ABSENT, { status: 503, headers: { "content-type": "text/html; charset=utf-8", "content-security-policy": "default-src 'none'" } });
  event.respondWith(fetch(event.request).catch(absent));
});
