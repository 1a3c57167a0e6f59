// Posts the code of the login link by itself, and forgets it once the server has said what it thinks of it.
"use strict";

const status = document.getElementById("status");

function logIn() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) {
    status.textContent = "Open the link that the server printed when it started, or a new one.";
    return;
  }
  status.textContent = "Signing in …";
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ code }) };
  fetch("/login", request).then(
    (response) => {
      if (response.ok || response.status === 401) history.replaceState(null, "", "/login");
      if (response.ok) location.replace("/");
      else if (response.status === 401) status.textContent = "This link was used already or has expired.";
      else status.textContent = "The server cannot let anybody in now. Reload the page to try again.";
    },
    () => (status.textContent = "The server does not answer. Reload the page to try again."),
  );
}

// A link that is opened over another one changes what is behind the # and nothing else.
addEventListener("hashchange", logIn);
logIn();
